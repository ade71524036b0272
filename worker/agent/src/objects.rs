//! Objects of the store, read through the coordinator, verified, and cached on disk by their checksum.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quartet_proto::v1;
use quartet_shared::blob::{Blob, BlobHasher, BlobRef};
use quartet_shared::blocking;
use tonic::{Code, Status};

use super::calls::Calls;
use super::coordinators::CHUNK_TIMEOUT;
use super::random::Random;
use super::task_error::TaskError;

/// Reads objects, and keeps data sets in a folder.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    calls: Calls,
    cache: PathBuf,
    random: Random,
}

impl Objects {
    pub(super) fn new(calls: Calls, cache_dir: &Path, random: Random) -> Self {
        Self {
            calls,
            cache: cache_dir.join("objects"),
            random,
        }
    }

    /// A local file with the object's bytes, from the cache if they are there and sound.
    pub(super) async fn cached(&self, object: &BlobRef) -> Result<PathBuf, TaskError> {
        let path = self.cache.join(object.blob.sha256.to_string());
        if is_sound(path.clone(), object.blob).await? {
            return Ok(path);
        }
        fs::create_dir_all(&self.cache)
            .map_err(|e| TaskError::Failed(local_failure("create", &self.cache, &e)))?;
        // A name of its own: other workers may share the cache.
        let name = format!("{}.{:016x}", object.blob.sha256, self.random.number());
        let partial = self.cache.join(name);
        let downloaded = self.download(object, &partial).await;
        let renamed = downloaded.and_then(|()| {
            fs::rename(&partial, &path)
                .map_err(|e| TaskError::Failed(local_failure("write", &path, &e)))
        });
        if renamed.is_err() {
            let _ = fs::remove_file(&partial);
        }
        renamed.map(|()| path)
    }

    /// Writes the object's bytes to `path` and verifies them. If they are wrong, reads them once more,
    /// because the fault may have been on the way.
    pub(super) async fn download(&self, object: &BlobRef, path: &Path) -> Result<(), TaskError> {
        let expected = object.blob;
        let mut found = self
            .calls
            .retry(|| self.try_download(&object.key, path))
            .await?;
        if found != Some(expected) {
            let seen = found.map(tracing::field::display);
            tracing::warn!(
                object = %object.key, found = seen, %expected,
                "an object is not as it should be; reading it again"
            );
            found = self
                .calls
                .retry(|| self.try_download(&object.key, path))
                .await?;
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

    /// Writes the object's bytes to `path` and returns their size and checksum, `None` without such an
    /// object.
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

    async fn get(&self, key: &str) -> Result<tonic::Streaming<v1::GetObjectResponse>, Status> {
        let request = v1::GetObjectRequest {
            key: key.to_owned(),
        };
        let mut client = self.calls.client();
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
