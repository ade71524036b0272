//! Receives the blobs of a checkpoint into the store.

use std::time::Duration;

use bytes::Bytes;
use quartet_proto::v1::{self, commit_checkpoint_request::Part};
use quartet_shared::blob::BlobRef;
use tonic::{Status, Streaming};

use crate::server::shell::Shell;

/// Longest wait for the next bytes of an upload.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// Receives blobs, one after the other, and verifies them.
pub(super) async fn blobs(
    shell: &Shell,
    blobs: [&BlobRef; 2],
    parts: &mut Streaming<v1::CommitCheckpointRequest>,
) -> Result<(), Status> {
    let mut rest = Bytes::new();
    for object in blobs {
        blob(shell, object, parts, &mut rest).await?;
    }
    if !rest.is_empty() || next_part(parts).await?.is_some() {
        return Err(Status::invalid_argument(
            "more bytes came than the header announced",
        ));
    }
    Ok(())
}

/// The next message. A missing one must not keep the lease pinned for ever.
async fn next_part(
    parts: &mut Streaming<v1::CommitCheckpointRequest>,
) -> Result<Option<v1::CommitCheckpointRequest>, Status> {
    tokio::time::timeout(PART_TIMEOUT, parts.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the upload stands still"))?
}

/// Receives one blob; `rest` holds bytes received beyond the blob before.
async fn blob(
    shell: &Shell,
    expected: &BlobRef,
    parts: &mut Streaming<v1::CommitCheckpointRequest>,
    rest: &mut Bytes,
) -> Result<(), Status> {
    let mut upload = shell.experiment.store.upload(&expected.key);
    loop {
        let wanted = expected.blob.size - upload.size();
        let take = usize::try_from(wanted)
            .unwrap_or(usize::MAX)
            .min(rest.len());
        if take > 0
            && let Err(error) = upload.write(rest.split_to(take)).await
        {
            upload.abort().await;
            return Err(shell.store_failed(error));
        }
        if upload.size() == expected.blob.size {
            break;
        }
        let next = match next_part(parts).await {
            Ok(Some(v1::CommitCheckpointRequest {
                part: Some(Part::Chunk(chunk)),
            })) => Ok(chunk),
            Ok(Some(_)) => Err(Status::invalid_argument("a chunk was expected")),
            Ok(None) => Err(Status::data_loss(format!(
                "the upload of {} ended after {} of {} bytes",
                expected.key,
                upload.size(),
                expected.blob.size
            ))),
            Err(status) => Err(status),
        };
        match next {
            Ok(chunk) => *rest = chunk,
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
