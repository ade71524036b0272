//! Objects of the store, read through the coordinator, verified, and cached on disk by their checksum.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use quartet_proto::v1;
use quartet_shared::blob::{Blob, BlobHasher, BlobRef};
use quartet_shared::blocking;
use tokio::sync::Mutex;
use tonic::{Code, Status};

use super::calls::{Calls, broke_off};
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
        let mut found = self.try_download(object, path).await?;
        if found != Some(expected) {
            let seen = found.map(tracing::field::display);
            tracing::warn!(
                object = %object.key, found = seen, %expected,
                "an object is not as it should be; reading it again"
            );
            found = self.try_download(object, path).await?;
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
    /// object. After an interruption it goes on where it was.
    async fn try_download(&self, object: &BlobRef, path: &Path) -> Result<Option<Blob>, TaskError> {
        let partial = Partial::create(path)
            .map_err(|e| TaskError::Failed(local_failure("write", path, &e)))?;
        let partial = Mutex::new(partial);
        let go_on = || async { self.read(object, &mut *partial.lock().await).await };
        let found = self.calls.retry(go_on).await?;
        Ok(found.then(|| partial.into_inner().hasher.finish()))
    }

    /// Reads the rest of the object. Returns whether there is such an object.
    async fn read(&self, object: &BlobRef, partial: &mut Partial) -> Result<bool, Status> {
        let size = object.blob.size;
        let done = partial.hasher.size();
        if done >= size && size > 0 {
            return Ok(true);
        }
        let request = v1::GetObjectRequest {
            key: object.key.clone(),
            offset: done,
        };
        let mut client = self.calls.client();
        let asked = tokio::time::timeout(CHUNK_TIMEOUT, client.get_object(request));
        let mut stream = match asked.await.map_err(|_| silent())? {
            Ok(stream) => stream.into_inner(),
            Err(status) if status.code() == Code::NotFound => return Ok(false),
            Err(status) => return Err(status),
        };
        // More than it should have is corrupt, however much there is.
        while partial.hasher.size() <= size {
            let message = next(&mut stream).await.map_err(|status| {
                let moved = partial.hasher.size() > done;
                if moved { broke_off(status) } else { status }
            });
            let Some(message) = message? else { break };
            partial.write(message.chunk).await?;
            self.calls.report_download(partial.hasher.size(), size);
        }
        Ok(true)
    }
}

/// A file that is being downloaded.
struct Partial {
    path: PathBuf,
    file: Arc<File>,
    hasher: BlobHasher,
}

impl Partial {
    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(File::create(path)?),
            hasher: BlobHasher::default(),
        })
    }

    async fn write(&mut self, chunk: Bytes) -> Result<(), Status> {
        self.hasher.update(&chunk);
        let file = Arc::clone(&self.file);
        let written = blocking::run(move || (&*file).write_all(&chunk)).await;
        let written = written.map_err(io::Error::other).flatten();
        written.map_err(|e| Status::invalid_argument(local_failure("write", &self.path, &e)))
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
