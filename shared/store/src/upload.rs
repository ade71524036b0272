//! Large objects on their way into the store.

use std::sync::Arc;

use bytes::Bytes;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use quartet_shared::blob::{Blob, BlobHasher};
use tokio::io::AsyncWriteExt;

use super::{Store, StoreError};

/// Part size of multipart uploads: S3's least, so that an upload holds few bytes in memory.
pub(super) const PART_SIZE: usize = 5 * 1024 * 1024;

/// A large object in the making, hashed as it is written.
#[derive(Debug)]
pub struct Upload {
    store: Store,
    key: String,
    writer: BufWriter,
    hasher: BlobHasher,
}

impl Upload {
    pub(super) fn new(store: &Store, key: &str) -> Self {
        let objects = Arc::clone(&store.inner);
        let writer = BufWriter::with_capacity(objects, Path::from(key), PART_SIZE);
        Self {
            store: store.clone(),
            key: key.to_owned(),
            writer: writer.with_max_concurrency(2),
            hasher: BlobHasher::default(),
        }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.hasher.size()
    }

    /// Appends bytes. Holds back while the store is slower than the sender.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.hasher.update(&chunk);
        self.writer
            .put(chunk)
            .await
            .map_err(|e| self.store.error("write", &self.key, e))
    }

    /// Completes the object if its size and checksum are the expected ones. Otherwise gives back what they
    /// were and leaves no object.
    pub async fn finish(mut self, expected: Blob) -> Result<Result<(), Blob>, StoreError> {
        let found = std::mem::take(&mut self.hasher).finish();
        if found != expected {
            self.abort().await;
            return Ok(Err(found));
        }
        self.writer
            .shutdown()
            .await
            .map_err(|e| StoreError::Operation {
                operation: "write",
                key: self.key,
                store: self.store.location.to_string(),
                cause: e.into(),
            })?;
        Ok(Ok(()))
    }

    /// Gives the object up; what was written of it is removed as far as the store lets us.
    pub async fn abort(mut self) {
        if let Err(error) = self.writer.abort().await {
            tracing::warn!(key = self.key, %error, "could not remove an unfinished upload");
        }
    }
}
