//! Receives the blobs of a checkpoint into the store.

use bytes::Bytes;
use quartet_proto::v1::{self, commit_checkpoint_request::Part};
use quartet_shared::blob::BlobRef;
use quartet_shared::chunks::CHUNK_SIZE;
use quartet_shared::position::Position;
use quartet_shared::task::LeaseId;
use tonic::{Status, Streaming};

use super::sender::Sender;
use crate::server::shell::Shell;

/// The messages of a worker that commits.
type Parts = Sender<Streaming<v1::CommitCheckpointRequest>>;

/// A commit's bytes on their way from its worker to the store.
pub(super) struct Receiver<'a> {
    shell: &'a Shell,
    lease: &'a LeaseId,
    position: Position,
    parts: &'a mut Parts,
    /// What came beyond the blob before.
    rest: Bytes,
    received: u64,
    reported: u64,
}

impl<'a> Receiver<'a> {
    pub(super) fn new(
        shell: &'a Shell,
        (lease, position): (&'a LeaseId, Position),
        parts: &'a mut Parts,
    ) -> Self {
        Self {
            shell,
            lease,
            position,
            parts,
            rest: Bytes::new(),
            received: 0,
            reported: 0,
        }
    }

    /// Receives blobs, one after the other, and verifies them.
    pub(super) async fn blobs(&mut self, blobs: [&BlobRef; 2]) -> Result<(), Status> {
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
        let shell = self.shell;
        let mut upload = shell.experiment.store.upload(&expected.key);
        loop {
            let wanted = expected.blob.size - upload.size();
            let take = usize::try_from(wanted)
                .unwrap_or(usize::MAX)
                .min(self.rest.len());
            if take > 0
                && let Err(error) = upload.write(self.rest.split_to(take)).await
            {
                upload.abort().await;
                return Err(shell.store_failed(error));
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
            .map_err(|error| shell.store_failed(error))?
            .map_err(|found| {
                Status::data_loss(format!(
                    "{} arrived with sha256 {} instead of {}",
                    expected.key, found.sha256, expected.blob.sha256
                ))
            })
    }

    /// The next bytes.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Status> {
        let chunk = match self.parts.next().await? {
            Some(v1::CommitCheckpointRequest {
                part: Some(Part::Chunk(chunk)),
            }) => chunk,
            Some(_) => return Err(Status::invalid_argument("a chunk was expected")),
            None => return Ok(None),
        };
        self.received += chunk.len() as u64;
        if self.received - self.reported >= CHUNK_SIZE as u64 {
            self.reported = self.received;
            let (lease, position, bytes) = (self.lease, self.position, self.received);
            self.shell
                .scheduler
                .note(|scheduler, now| scheduler.report_upload(lease, position, bytes, now));
        }
        Ok(Some(chunk))
    }
}
