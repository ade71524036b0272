//! What a writer that was killed leaves in a local store: files in the making, which no listing shows.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quartet_shared::blocking;

use super::{Store, StoreError};

/// An object in the making. Its writer may be at it, or dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The object that it would have become.
    pub key: String,
    /// How long ago something was written to it.
    pub idle: Duration,
    path: PathBuf,
}

impl Store {
    /// The unfinished uploads below `folder`, sorted by key. S3 does not list its own; a lifecycle rule of
    /// the bucket (`AbortIncompleteMultipartUpload`) deletes them.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn leftovers(&self, folder: &str) -> Result<Vec<Leftover>, StoreError> {
        let Some(root) = self.directory.clone() else {
            return Ok(Vec::new());
        };
        let below = root.join(folder.trim_end_matches('/'));
        let walk = blocking::run(move || {
            let mut found = Vec::new();
            collect(&root, &below, &mut found).map(|()| found)
        });
        let found = match walk.await {
            Ok(found) => found,
            Err(panic) => Err(io::Error::other(panic)),
        };
        let mut found = found.map_err(|e| self.io_error("list", folder, e))?;
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Deletes an object in the making whose writer is dead.
    ///
    /// # Errors
    /// It cannot be deleted. That it is gone is none.
    pub async fn delete_leftover(&self, leftover: &Leftover) -> Result<(), StoreError> {
        match tokio::fs::remove_file(&leftover.path).await {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(self.io_error("delete", &leftover.key, e))
            }
            _ => Ok(()),
        }
    }

    fn io_error(&self, operation: &'static str, key: &str, cause: io::Error) -> StoreError {
        StoreError::Operation {
            operation,
            key: key.to_owned(),
            store: self.location.to_string(),
            cause: cause.into(),
        }
    }
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Leftover>) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, found)?;
        } else if let Some(key) = key(root, &path) {
            // One that was finished meanwhile is gone.
            let Ok(modified) = path.metadata().and_then(|file| file.modified()) else {
                continue;
            };
            let idle = modified.elapsed().unwrap_or_default();
            found.push(Leftover { key, idle, path });
        }
    }
    Ok(())
}

/// The key that object_store writes for under this path: it appends `#` and a number to the object's own.
fn key(root: &Path, path: &Path) -> Option<String> {
    let relative = path.strip_prefix(root).ok()?.to_str()?;
    let (key, number) = relative.rsplit_once('#')?;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_upload_that_was_broken_off_is_found_and_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().to_str().unwrap()).unwrap();
        store.create("a/whole.json", "1".into()).await.unwrap();
        let mut upload = store.upload("a/b/half.bin");
        // Longer than what is held in memory, so that a file is begun.
        for _ in 0..12 {
            upload.write(vec![7; 1 << 20].into()).await.unwrap();
        }
        // As if the process were killed: nothing is cleaned up.
        std::mem::forget(upload);
        let found = store.leftovers("a").await.unwrap();
        let keys: Vec<_> = found.iter().map(|found| found.key.as_str()).collect();
        assert_eq!(keys, ["a/b/half.bin"]);
        assert!(found[0].idle < Duration::from_secs(3600));
        assert_eq!(store.list("a").await.unwrap(), ["a/whole.json"]);
        assert_eq!(store.leftovers("elsewhere").await.unwrap(), []);

        store.delete_leftover(&found[0]).await.unwrap();
        store.delete_leftover(&found[0]).await.unwrap();
        assert_eq!(store.leftovers("a/").await.unwrap(), []);
        assert_eq!(
            store.read_json::<u32>("a/whole.json").await.unwrap(),
            Some(1)
        );
    }
}
