//! The object store: a local directory or S3, behind the few operations that Quartet needs.
//!
//! Objects are created once and never changed. Small ones (manifests, specs) are created with
//! `PutMode::Create`, which both kinds of store do atomically; blobs have keys that no two writers share.

mod check;
mod dataset;
mod error;
pub mod evaluation;
pub mod layout;
mod leftovers;
mod location;
pub mod log;
pub mod manifest;
pub mod spec;
mod upload;
mod watched;

use std::io;
use std::ops::Range;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetResult, GetResultPayload, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use quartet_shared::blob::{Blob, BlobHasher};
use quartet_shared::chunks;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::StoreError;
pub use leftovers::Leftover;
pub use upload::Upload;

/// Bytes of the largest JSON object that is read. The largest that is written, an evaluation with 256
/// classes, has two confusion matrices of 65 536 counts, each in a line.
const LARGEST_JSON: u64 = 64 << 20;

/// Bytes that are asked for at once from a server.
pub const PIECE_SIZE: usize = 2 << 20;

/// Pieces of an object that are on their way at once.
pub const PIECES_ASKED_FOR: usize = 2;

/// Answers that an object exists, which then is not there, before its creation fails.
const CONFLICTS: u32 = 20;
/// How long another try at a creation waits.
const CONFLICT_PAUSE: Duration = Duration::from_millis(100);

/// Whether a creation made the object or found it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The object is new.
    Created,
    /// An object of this key was there; it is unchanged.
    Exists,
}

/// A handle to the store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    location: Arc<str>,
    directory: Option<Arc<FsPath>>,
}

impl Store {
    /// A store within this process, or any other that behaves like one: for tests and simulations.
    #[must_use]
    pub fn from_objects(location: &str, objects: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner: objects,
            location: location.into(),
            directory: None,
        }
    }

    /// Where the store is, as the user named it.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Where an object lies, for people: a path of a local store, else a URL.
    #[must_use]
    pub fn display_key(&self, key: &str) -> String {
        match &self.directory {
            Some(directory) => directory.join(key).display().to_string(),
            None => format!("{}/{key}", self.location.trim_end_matches('/')),
        }
    }

    fn error(&self, operation: &'static str, key: &str, source: object_store::Error) -> StoreError {
        let (key, store) = (key.to_owned(), self.location.to_string());
        match source {
            object_store::Error::NotFound { .. } if operation == "read" => {
                StoreError::NotFound { key, store }
            }
            source => StoreError::Operation {
                operation,
                key,
                store,
                cause: source.into(),
            },
        }
    }

    /// Creates an object; never overwrites one. Where it was found there, somebody has created it: S3 answers
    /// writers at the same time by a conflict, and none of them may have written, so that one tries again.
    pub async fn create(&self, key: &str, content: Bytes) -> Result<Creation, StoreError> {
        let path = Path::from(key);
        let failed = |e| self.error("create", key, e);
        for _ in 0..CONFLICTS {
            let creation = self.try_create(&path, content.clone()).await;
            if creation.map_err(failed)? == Creation::Created {
                return Ok(Creation::Created);
            }
            match self.inner.head(&path).await {
                Ok(_) => return Ok(Creation::Exists),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
            tokio::time::sleep(CONFLICT_PAUSE).await;
        }
        Err(failed(object_store::Error::Generic {
            store: "store",
            source: "it says that the object exists, and then that it does not".into(),
        }))
    }

    async fn try_create(&self, path: &Path, content: Bytes) -> object_store::Result<Creation> {
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        match self.inner.put_opts(path, content.into(), options).await {
            Ok(_) => Ok(Creation::Created),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Creation::Exists),
            Err(error) => Err(error),
        }
    }

    /// Creates an object with the JSON form of `value`; never overwrites one.
    pub async fn create_json(
        &self,
        key: &str,
        value: &impl Serialize,
    ) -> Result<Creation, StoreError> {
        let mut json = serde_json::to_vec_pretty(value).map_err(|e| StoreError::Operation {
            operation: "write",
            key: key.to_owned(),
            store: self.location.to_string(),
            cause: e.into(),
        })?;
        json.push(b'\n');
        self.create(key, json.into()).await
    }

    /// The value of a JSON object, `None` when there is no such object. One of more than 64 MiB is not read.
    pub async fn read_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let invalid = |cause: serde_json::Error| StoreError::Operation {
            operation: "read",
            key: key.to_owned(),
            store: self.location.to_string(),
            cause: cause.into(),
        };
        let bytes = match self.inner.get(&Path::from(key)).await {
            Ok(object) if object.meta.size > LARGEST_JSON => {
                let size = object.meta.size;
                let reason =
                    format!("{size} bytes are more than the {LARGEST_JSON} of any JSON here");
                return Err(invalid(serde::de::Error::custom(reason)));
            }
            Ok(object) => object
                .bytes()
                .await
                .map_err(|e| self.error("read", key, e))?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(self.error("read", key, e)),
        };
        let value = serde_json::from_slice(&bytes).map_err(invalid)?;
        Ok(Some(value))
    }

    /// Checks that an object is there which nobody deletes as long as there is a store.
    ///
    /// # Errors
    /// It is not ([`StoreError::Gone`]), or the store cannot say.
    pub async fn check_still_has(&self, key: &str) -> Result<(), StoreError> {
        match self.exists(key).await? {
            true => Ok(()),
            false => Err(StoreError::Gone {
                key: key.to_owned(),
                store: self.location.to_string(),
            }),
        }
    }

    /// Whether there is such an object.
    pub async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        match self.inner.head(&Path::from(key)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(self.error("look for", key, e)),
        }
    }

    /// The bytes of an object, in chunks.
    pub async fn read(
        &self,
        key: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, StoreError>> + Send + use<>, StoreError> {
        let path = Path::from(key);
        let failed = |e| self.error("read", key, e);
        let chunks = if self.directory.is_some() {
            let object = self.inner.get(&path).await.map_err(failed)?;
            let (store, key) = (self.clone(), key.to_owned());
            let chunks = whole(object);
            let failed = move |e| store.error("read", &key, e);
            chunks.map(move |chunk| chunk.map_err(&failed)).boxed()
        } else {
            let size = self.size(key).await?;
            let (store, key) = (self.clone(), key.to_owned());
            let pieces = pieces(0..size).map(move |piece| {
                let (store, key) = (store.clone(), key.clone());
                async move { store.read_piece(&key, piece).await }
            });
            stream::iter(pieces).buffered(PIECES_ASKED_FOR).boxed()
        };
        Ok(chunks)
    }

    /// Size of an object in bytes.
    pub async fn size(&self, key: &str) -> Result<u64, StoreError> {
        let found = self.inner.head(&Path::from(key)).await;
        Ok(found.map_err(|e| self.error("read", key, e))?.size)
    }

    /// These bytes of an object, one of its [`pieces`]. Each piece has the time limit and the repetitions of
    /// one request, so that an object takes as long over a slow link as it needs.
    pub async fn read_piece(&self, key: &str, piece: Range<u64>) -> Result<Bytes, StoreError> {
        let read = self.inner.get_range(&Path::from(key), piece).await;
        read.map_err(|e| self.error("read", key, e))
    }

    /// Size and checksum of an object's bytes, `None` when there is no such object.
    pub async fn checksum(&self, key: &str) -> Result<Option<Blob>, StoreError> {
        let mut chunks = match self.read(key).await {
            Ok(chunks) => chunks,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut hasher = BlobHasher::default();
        while let Some(chunk) = chunks.try_next().await? {
            hasher.update(&chunk);
        }
        Ok(Some(hasher.finish()))
    }

    /// The keys of all objects in a folder, sorted.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let objects = self.list_sizes(folder).await?;
        Ok(objects.into_iter().map(|(key, _)| key).collect())
    }

    /// The keys of all objects in a folder, sorted, with their sizes in bytes.
    pub async fn list_sizes(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let mut objects: Vec<(String, u64)> = self
            .inner
            .list(Some(&Path::from(folder)))
            .map_ok(|object| (object.location.to_string(), object.size))
            .try_collect()
            .await
            .map_err(|e| self.error("list", folder, e))?;
        objects.sort_unstable();
        Ok(objects)
    }

    /// The names of the folders that lie directly in a folder, sorted; in the whole store for an empty name.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let path = (!folder.is_empty()).then(|| Path::from(folder));
        let listed = self.inner.list_with_delimiter(path.as_ref()).await;
        let listed = listed.map_err(|e| self.error("list", folder, e))?;
        let names = listed.common_prefixes.iter().filter_map(Path::filename);
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The newest of the numbered objects in a folder, also where numbers have outgrown their leading zeros.
    pub async fn newest(&self, folder: &str) -> Result<Option<String>, StoreError> {
        let is_numbered = |key: &String| {
            let name = key.rsplit('/').next().and_then(|n| n.strip_suffix(".json"));
            name.is_some_and(|name| name.chars().all(|c| c.is_ascii_digit() || c == '-'))
        };
        let keys = self.list(folder).await?.into_iter().filter(is_numbered);
        Ok(keys.max_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b))))
    }

    /// Deletes an object; one that is not there is no error.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.inner.delete(&Path::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.error("delete", key, e)),
        }
    }

    /// Begins to write a large object. It appears when [`Upload::finish`] returns, whole or not at all.
    #[must_use]
    pub fn upload(&self, key: &str) -> Upload {
        Upload::new(self, key)
    }
}

/// The bytes of an object that lies in a file. object_store's own stream would take 8 KiB at once.
fn whole(object: GetResult) -> BoxStream<'static, object_store::Result<Bytes>> {
    let failed = |source: io::Error| object_store::Error::Generic {
        store: "LocalFileSystem",
        source: source.into(),
    };
    match object.payload {
        GetResultPayload::File(file, _) => chunks::of_file(file).map_err(failed).boxed(),
        GetResultPayload::Stream(chunks) => chunks,
    }
}

/// The pieces of [`PIECE_SIZE`] bytes or less that these bytes of an object are read in.
pub fn pieces(bytes: Range<u64>) -> impl Iterator<Item = Range<u64>> + Send {
    let end = bytes.end;
    let starts = bytes.step_by(PIECE_SIZE);
    starts.map(move |start| start..end.min(start + PIECE_SIZE as u64))
}

#[cfg(test)]
mod tests;
