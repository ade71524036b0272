//! Objects of the store, read through the coordinator: verified, and cached on disk by their checksum.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use quartet_proto::v1;
use quartet_shared::blob::{Blob, BlobHasher, BlobRef};
use quartet_shared::blocking;
use serde::de::DeserializeOwned;
use tonic::{Code, Status};

use super::coordinators::{CHUNK_TIMEOUT, Coordinators};
use super::random::Random;
use super::running::{Shared, TaskError};

/// Reads objects, and keeps data sets in a folder.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    coordinators: Coordinators,
    cache: PathBuf,
    random: Random,
}

impl Objects {
    pub(super) fn new(coordinators: Coordinators, cache_dir: &Path, random: Random) -> Self {
        Self {
            coordinators,
            cache: cache_dir.join("objects"),
            random,
        }
    }

    /// The value of a JSON object.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        key: &str,
        shared: &Shared,
    ) -> Result<T, TaskError> {
        let bytes = shared.call(|| self.bytes(key)).await?;
        serde_json::from_slice(&bytes).map_err(|e| TaskError::Failed(format!("{key}: {e}")))
    }

    /// A local file with the object's bytes, from the cache if they are there and sound.
    pub(super) async fn cached(
        &self,
        object: &BlobRef,
        shared: &Shared,
    ) -> Result<PathBuf, TaskError> {
        let path = self.cache.join(object.blob.sha256.to_string());
        if is_sound(path.clone(), object.blob).await? {
            return Ok(path);
        }
        fs::create_dir_all(&self.cache)
            .map_err(|e| TaskError::Failed(local_failure("create", &self.cache, &e)))?;
        // A name of its own: other workers may share the cache.
        let name = format!("{}.{:016x}", object.blob.sha256, self.random.number());
        let partial = self.cache.join(name);
        let downloaded = self.download(object, &partial, shared).await;
        let renamed = downloaded.and_then(|()| {
            fs::rename(&partial, &path)
                .map_err(|e| TaskError::Failed(local_failure("write", &path, &e)))
        });
        if renamed.is_err() {
            let _ = fs::remove_file(&partial);
        }
        renamed.map(|()| path)
    }

    /// Writes the object's bytes to `path` and verifies them. Should they be wrong, the fault may have been on the way:
    /// they are read once more.
    pub(super) async fn download(
        &self,
        object: &BlobRef,
        path: &Path,
        shared: &Shared,
    ) -> Result<(), TaskError> {
        let expected = object.blob;
        let mut found = shared.call(|| self.try_download(&object.key, path)).await?;
        if found != Some(expected) {
            let seen = found.map(tracing::field::display);
            tracing::warn!(object = %object.key, found = seen, %expected, "an object is not as it should be; reading it again");
            found = shared.call(|| self.try_download(&object.key, path)).await?;
        }
        if found == Some(expected) {
            return Ok(());
        }
        let _ = fs::remove_file(path);
        let object = object.key.clone();
        let reason = match found {
            Some(found) => format!("{object} is corrupt: {found} instead of {expected}"),
            None => format!("{object} is missing"),
        };
        Err(TaskError::Corrupt { object, reason })
    }

    /// Size and checksum of what is in the file now, `None` when there is no such object.
    async fn try_download(&self, key: &str, path: &Path) -> Result<Option<Blob>, Status> {
        let local = |e: io::Error| Status::invalid_argument(local_failure("write", path, &e));
        let file = Arc::new(File::create(path).map_err(local)?);
        let mut hasher = BlobHasher::default();
        let mut stream = match self.get(key).await {
            Ok(stream) => stream,
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(status),
        };
        while let Some(message) = next(&mut stream).await? {
            hasher.update(&message.chunk);
            let file = Arc::clone(&file);
            let write = move || (&*file).write_all(&message.chunk);
            let written = blocking::run(write).await;
            written.map_err(io::Error::other).flatten().map_err(local)?;
        }
        Ok(Some(hasher.finish()))
    }

    async fn bytes(&self, key: &str) -> Result<Vec<u8>, Status> {
        let mut bytes = Vec::new();
        let mut stream = self.get(key).await?;
        while let Some(message) = next(&mut stream).await? {
            bytes.extend_from_slice(&message.chunk);
        }
        Ok(bytes)
    }

    async fn get(&self, key: &str) -> Result<tonic::Streaming<v1::GetObjectResponse>, Status> {
        let request = v1::GetObjectRequest {
            key: key.to_owned(),
        };
        let mut client = self.coordinators.client();
        let asked = tokio::time::timeout(CHUNK_TIMEOUT, client.get_object(request));
        Ok(asked.await.map_err(|_| silent())??.into_inner())
    }
}

/// The next bytes of an object.
async fn next(
    stream: &mut tonic::Streaming<v1::GetObjectResponse>,
) -> Result<Option<v1::GetObjectResponse>, Status> {
    let next = tokio::time::timeout(CHUNK_TIMEOUT, stream.message());
    next.await.map_err(|_| silent())?
}

fn silent() -> Status {
    Status::deadline_exceeded("the coordinator sends nothing")
}

/// What went wrong with a file of ours, and what to do about a full disk.
pub(super) fn local_failure(action: &str, path: &Path, error: &io::Error) -> String {
    let mut text = format!("cannot {action} {}: {error}", path.display());
    if matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    ) {
        let folder = path.parent().unwrap_or(path).display();
        text += &format!("; make room for {folder} or choose another folder with --cache-dir");
    }
    text
}

async fn is_sound(path: PathBuf, expected: Blob) -> Result<bool, TaskError> {
    let check = move || Ok::<_, io::Error>(Blob::of_file(&path)? == expected);
    let checked = blocking::run(check).await.map_err(TaskError::failed)?;
    Ok(checked.unwrap_or(false))
}

/// A folder of this process for checkpoints on their way, removed when it exits. What killed processes left is removed by the next.
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
