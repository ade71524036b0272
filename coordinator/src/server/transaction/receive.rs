//! Receives blobs into the store.

use bytes::Bytes;
use futures::Stream;
use quartet_proto::v1::{
    self, commit_checkpoint_request, keep_predictions_request, put_object_request,
};
use quartet_shared::blob::BlobRef;
use quartet_shared::chunks::CHUNK_SIZE;
use quartet_store::{Store, StoreError};
use tonic::Status;

use super::sender::Sender;

/// A message of an upload.
pub(in crate::server) trait Part {
    /// The bytes that it brings, unless it is a header.
    fn into_chunk(self) -> Option<Bytes>;
}

impl Part for v1::CommitCheckpointRequest {
    fn into_chunk(self) -> Option<Bytes> {
        match self.part {
            Some(commit_checkpoint_request::Part::Chunk(chunk)) => Some(chunk),
            _ => None,
        }
    }
}

impl Part for v1::KeepPredictionsRequest {
    fn into_chunk(self) -> Option<Bytes> {
        match self.part {
            Some(keep_predictions_request::Part::Chunk(chunk)) => Some(chunk),
            _ => None,
        }
    }
}

impl Part for v1::PutObjectRequest {
    fn into_chunk(self) -> Option<Bytes> {
        match self.part {
            Some(put_object_request::Part::Chunk(chunk)) => Some(chunk),
            _ => None,
        }
    }
}

/// Bytes on their way from their sender to the store.
pub(in crate::server) struct Receiver<'a, S, F> {
    store: &'a Store,
    /// What the sender is told of a failure of the store.
    failed: &'a (dyn Fn(StoreError) -> Status + Send + Sync),
    parts: &'a mut Sender<S>,
    /// Hears how many bytes have come, after every chunk.
    report: F,
    /// What came beyond the blob before.
    rest: Bytes,
    received: u64,
    reported: u64,
}

impl<'a, S, T, F> Receiver<'a, S, F>
where
    S: Stream<Item = Result<T, Status>> + Unpin,
    T: Part,
    F: FnMut(u64),
{
    pub(in crate::server) fn new(
        store: &'a Store,
        failed: &'a (dyn Fn(StoreError) -> Status + Send + Sync),
        parts: &'a mut Sender<S>,
        report: F,
    ) -> Self {
        Self {
            store,
            failed,
            parts,
            report,
            rest: Bytes::new(),
            received: 0,
            reported: 0,
        }
    }

    /// Receives blobs, one after the other, and verifies them.
    pub(in crate::server) async fn blobs(
        &mut self,
        blobs: impl IntoIterator<Item = &BlobRef>,
    ) -> Result<(), Status> {
        for object in blobs {
            self.blob(object).await?;
        }
        if !self.rest.is_empty() || self.parts.next().await?.is_some() {
            return Err(Status::invalid_argument(
                "more bytes came than the header announced",
            ));
        }
        Ok(())
    }

    async fn blob(&mut self, expected: &BlobRef) -> Result<(), Status> {
        let failed = self.failed;
        let mut upload = self.store.upload(&expected.key);
        loop {
            let wanted = expected.blob.size - upload.size();
            let take = usize::try_from(wanted)
                .unwrap_or(usize::MAX)
                .min(self.rest.len());
            if take > 0
                && let Err(error) = upload.write(self.rest.split_to(take)).await
            {
                upload.abort().await;
                return Err(failed(error));
            }
            if upload.size() == expected.blob.size {
                break;
            }
            match self.chunk().await {
                Ok(Some(chunk)) => self.rest = chunk,
                Ok(None) => {
                    let (key, found, size) = (&expected.key, upload.size(), expected.blob.size);
                    let ended = format!("the upload of {key} ended after {found} of {size} bytes");
                    upload.abort().await;
                    return Err(Status::data_loss(ended));
                }
                Err(status) => {
                    upload.abort().await;
                    return Err(status);
                }
            }
        }
        upload
            .finish(expected.blob)
            .await
            .map_err(failed)?
            .map_err(|found| {
                Status::data_loss(format!(
                    "{} arrived with sha256 {} instead of {}",
                    expected.key, found.sha256, expected.blob.sha256
                ))
            })
    }

    /// The next bytes.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(part) = self.parts.next().await? else {
            return Ok(None);
        };
        let chunk = part
            .into_chunk()
            .ok_or_else(|| Status::invalid_argument("a chunk was expected"))?;
        self.received += chunk.len() as u64;
        if self.received - self.reported >= CHUNK_SIZE as u64 {
            self.reported = self.received;
            (self.report)(self.received);
        }
        Ok(Some(chunk))
    }
}
