//! The folder for checkpoints on their way to the coordinator.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use super::random::Random;

/// A folder of this process for checkpoints on their way, removed when it exits. The next process removes
/// what killed ones left.
#[derive(Clone, Debug)]
pub(super) struct Spool(Arc<SpoolFolder>);

#[derive(Debug)]
struct SpoolFolder {
    path: PathBuf,
    /// Locked for as long as the process lives.
    _lock: File,
}

impl Drop for SpoolFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Spool {
    /// Makes a new folder in `cache_dir/spool`, and removes abandoned ones.
    ///
    /// # Errors
    /// When `cache_dir` cannot be used.
    pub(super) fn create(cache_dir: &Path, random: &Random) -> anyhow::Result<Self> {
        let root = cache_dir.join("spool");
        let create = || -> io::Result<SpoolFolder> {
            fs::create_dir_all(&root)?;
            remove_abandoned(&root)?;
            let path = root.join(format!("{:016x}", random.number()));
            fs::create_dir(&path)?;
            // Locked before it gets the name that others look for.
            let lock = File::create(path.join("lock.new"))?;
            lock.lock()?;
            fs::rename(path.join("lock.new"), path.join("lock"))?;
            Ok(SpoolFolder { path, _lock: lock })
        };
        let folder = create().with_context(|| {
            format!(
                "cannot use {} for temporary files; choose another with --cache-dir",
                root.display()
            )
        })?;
        Ok(Self(Arc::new(folder)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }
}

fn remove_abandoned(root: &Path) -> io::Result<()> {
    for folder in fs::read_dir(root)? {
        let folder = folder?.path();
        // Without its lock file a folder is being made just now.
        let Ok(lock) = File::open(folder.join("lock")) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(&folder);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_outlives_its_neighbours_start_and_an_abandoned_one_is_removed() {
        let (cache, random) = (tempfile::tempdir().unwrap(), Random::new(1));
        let first = Spool::create(cache.path(), &random).unwrap();
        let abandoned = cache.path().join("spool/dead");
        fs::create_dir(&abandoned).unwrap();
        File::create(abandoned.join("lock")).unwrap();
        let second = Spool::create(cache.path(), &random).unwrap();
        assert!(first.path().exists() && second.path().exists() && !abandoned.exists());
        let gone = first.path().to_owned();
        drop(first);
        assert!(!gone.exists());
    }
}
