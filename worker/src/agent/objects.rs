//! Objects of the store, read through the coordinator: verified, and cached on disk by their checksum.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use quartet_proto::v1;
use quartet_proto::v1::fleet_client::FleetClient;
use quartet_shared::checkpoint::{Blob, BlobRef, Checksum};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tonic::Status;
use tonic::transport::Channel;

use super::running::{Shared, TaskError};
use crate::checkpoint::checksum;

/// Reads objects, and keeps data sets in a folder.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    client: FleetClient<Channel>,
    cache: PathBuf,
}

impl Objects {
    pub(super) fn new(channel: Channel, cache_dir: &Path) -> Self {
        Self {
            client: FleetClient::new(channel),
            cache: cache_dir.join("objects"),
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
        fs::create_dir_all(&self.cache).map_err(|e| {
            TaskError::Failed(format!("cannot create {}: {e}", self.cache.display()))
        })?;
        // A name of its own: other workers may share the cache.
        let partial = self.cache.join(format!(
            "{}.{:016x}",
            object.blob.sha256,
            rand::random::<u64>()
        ));
        let downloaded = self.download(object, &partial, shared).await;
        let renamed = downloaded.and_then(|()| {
            fs::rename(&partial, &path)
                .map_err(|e| TaskError::Failed(format!("cannot write {}: {e}", path.display())))
        });
        if renamed.is_err() {
            let _ = fs::remove_file(&partial);
        }
        renamed.map(|()| path)
    }

    /// Writes the object's bytes to `path` and verifies them.
    pub(super) async fn download(
        &self,
        object: &BlobRef,
        path: &Path,
        shared: &Shared,
    ) -> Result<(), TaskError> {
        let found = shared.call(|| self.try_download(&object.key, path)).await?;
        if found == object.blob {
            Ok(())
        } else {
            Err(TaskError::Failed(format!(
                "{} is corrupt in the store: {} bytes with sha256 {} instead of {} bytes with {}",
                object.key, found.size, found.sha256, object.blob.size, object.blob.sha256
            )))
        }
    }

    async fn try_download(&self, key: &str, path: &Path) -> Result<Blob, Status> {
        let local =
            |e: std::io::Error| Status::invalid_argument(format!("{}: {e}", path.display()));
        let mut file = tokio::fs::File::create(path).await.map_err(local)?;
        let mut hasher = Sha256::new();
        let mut size = 0;
        let mut stream = self.get(key).await?;
        while let Some(message) = stream.message().await? {
            hasher.update(&message.chunk);
            size += message.chunk.len() as u64;
            file.write_all(&message.chunk).await.map_err(local)?;
        }
        file.flush().await.map_err(local)?;
        Ok(Blob {
            size,
            sha256: Checksum(hasher.finalize().into()),
        })
    }

    async fn bytes(&self, key: &str) -> Result<Vec<u8>, Status> {
        let mut bytes = Vec::new();
        let mut stream = self.get(key).await?;
        while let Some(message) = stream.message().await? {
            bytes.extend_from_slice(&message.chunk);
        }
        Ok(bytes)
    }

    async fn get(&self, key: &str) -> Result<tonic::Streaming<v1::GetObjectResponse>, Status> {
        let request = v1::GetObjectRequest {
            key: key.to_owned(),
        };
        Ok(self.client.clone().get_object(request).await?.into_inner())
    }
}

async fn is_sound(path: PathBuf, expected: Blob) -> Result<bool, TaskError> {
    let check = move || Ok::<_, std::io::Error>(checksum(&path)? == expected);
    let checked = tokio::task::spawn_blocking(check)
        .await
        .map_err(TaskError::failed)?;
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
    pub(super) fn create(cache_dir: &Path) -> anyhow::Result<Self> {
        let root = cache_dir.join("spool");
        let create = || -> std::io::Result<SpoolFolder> {
            fs::create_dir_all(&root)?;
            remove_abandoned(&root)?;
            let path = root.join(format!("{:016x}", rand::random::<u64>()));
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

fn remove_abandoned(root: &Path) -> std::io::Result<()> {
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
        let cache = tempfile::tempdir().unwrap();
        let first = Spool::create(cache.path()).unwrap();
        let abandoned = cache.path().join("spool/dead");
        fs::create_dir(&abandoned).unwrap();
        File::create(abandoned.join("lock")).unwrap();
        let second = Spool::create(cache.path()).unwrap();
        assert!(first.path().exists() && second.path().exists() && !abandoned.exists());
        let gone = first.path().to_owned();
        drop(first);
        assert!(!gone.exists());
    }
}
