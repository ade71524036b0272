//! Commits a checkpoint: blobs first, verified, then the manifest, which is what makes it exist.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quartet_proto::v1::{self, commit_checkpoint_request::Part};
use quartet_shared::checkpoint::{Blob, BlobRef, Manifest, Position};
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::human;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::task::{LeaseId, Task};
use quartet_shared::wire::{self, required};
use tonic::{Status, Streaming};

use super::refusal::{bad, missing, refused, store_failed};
use super::retention;
use super::shell::Shell;
use crate::scheduler::{CommitTicket, CommittedEpoch, Refusal};
use crate::store::Creation;

/// Longest wait for the next bytes of an upload.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// A commit in progress. Dropped, it gives the epoch up, so that no way out leaves the lease pinned.
struct InProgress {
    shell: Arc<Shell>,
    ticket: Option<CommitTicket>,
}

impl InProgress {
    fn end(&mut self, committed: Option<CommittedEpoch>) {
        if let Some(ticket) = self.ticket.take() {
            self.shell
                .tell(|scheduler, now| scheduler.end_commit(ticket, committed, now));
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// Takes the upload of one epoch's checkpoint and commits it.
pub(super) async fn commit(
    shell: Arc<Shell>,
    mut parts: Streaming<v1::CommitCheckpointRequest>,
) -> Result<(), Status> {
    let Some(v1::CommitCheckpointRequest {
        part: Some(Part::Header(header)),
    }) = parts.message().await?
    else {
        return Err(Status::invalid_argument(
            "the first message must be a header",
        ));
    };
    let manifest = manifest(&shell, header)?;
    let lease = LeaseId {
        task: Task::Train(manifest.run.clone()),
        attempt: manifest.attempt,
        worker: manifest.worker.clone(),
    };
    let ticket =
        match shell.tell(|scheduler, now| scheduler.begin_commit(&lease, manifest.epoch, now)) {
            Ok(ticket) => ticket,
            // The worker may ask again because the answer was lost on the way.
            Err(Refusal::AlreadyCommitted { .. }) if is_stored(&shell, &manifest).await? => {
                return Ok(());
            }
            Err(refusal) => {
                tracing::warn!(%lease, epoch = %manifest.epoch, %refusal, "checkpoint refused");
                return Err(refused(refusal));
            }
        };
    let mut in_progress = InProgress {
        shell: Arc::clone(&shell),
        ticket: Some(ticket),
    };

    let mut rest = Bytes::new();
    for blob in [&manifest.weights, &manifest.training_state] {
        receive(&shell, blob, &mut parts, &mut rest).await?;
    }
    if !rest.is_empty() || next_part(&mut parts).await?.is_some() {
        return Err(Status::invalid_argument(
            "more bytes came than the header announced",
        ));
    }

    let experiment = &shell.experiment;
    let key = experiment.layout.manifest(&manifest.run, manifest.epoch);
    let created = experiment
        .store
        .create_json(&key, &manifest)
        .await
        .map_err(store_failed)?;
    if created == Creation::Exists && !is_stored(&shell, &manifest).await? {
        return Err(Status::already_exists(format!(
            "epoch {} is committed",
            manifest.epoch
        )));
    }
    in_progress.end(Some(CommittedEpoch {
        metrics: manifest.metrics,
        early_stopping: manifest.early_stopping,
    }));
    tracing::info!(
        run = %manifest.run,
        attempt = %manifest.attempt,
        epoch = %manifest.epoch,
        valid_accuracy = %human::percentage(manifest.metrics.valid_accuracy),
        size = %human::size(manifest.weights.blob.size + manifest.training_state.blob.size),
        "epoch committed"
    );
    tokio::spawn(retention::prune(experiment.clone(), manifest));
    Ok(())
}

/// The manifest that the header describes.
fn manifest(shell: &Shell, header: v1::CheckpointHeader) -> Result<Manifest, Status> {
    let lease: LeaseId = required(header.lease, "lease").map_err(bad)?;
    let Task::Train(run) = lease.task else {
        return Err(Status::invalid_argument("only training has checkpoints"));
    };
    let layout = &shell.experiment.layout;
    let position = header
        .position
        .map(Position::from)
        .ok_or_else(|| missing("position"))?;
    if position.step > 0 {
        return Err(Status::unimplemented("states within an epoch"));
    }
    let epoch = wire::epoch(position.epoch.0, "position.epoch").map_err(bad)?;
    let attempt = lease.attempt;
    let metrics: EpochMetrics = required(header.metrics, "metrics").map_err(bad)?;
    let early_stopping: EarlyStopping =
        required(header.early_stopping, "early_stopping").map_err(bad)?;
    let weights: Blob = required(header.weights, "weights").map_err(bad)?;
    let state: Blob = required(header.training_state, "training_state").map_err(bad)?;
    Ok(Manifest {
        weights: BlobRef {
            key: layout.weights(&run, position, attempt),
            blob: weights,
        },
        training_state: BlobRef {
            key: layout.training_state(&run, position, attempt),
            blob: state,
        },
        run,
        epoch,
        attempt,
        worker: lease.worker,
        metrics,
        early_stopping,
    })
}

/// Whether exactly this manifest is in the store.
async fn is_stored(shell: &Shell, manifest: &Manifest) -> Result<bool, Status> {
    let key = shell
        .experiment
        .layout
        .manifest(&manifest.run, manifest.epoch);
    let stored = shell
        .experiment
        .store
        .read_json::<Manifest>(&key)
        .await
        .map_err(store_failed)?;
    Ok(stored.as_ref() == Some(manifest))
}

/// The next message. One that does not come must not keep the lease pinned for ever.
async fn next_part(
    parts: &mut Streaming<v1::CommitCheckpointRequest>,
) -> Result<Option<v1::CommitCheckpointRequest>, Status> {
    tokio::time::timeout(PART_TIMEOUT, parts.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the upload stands still"))?
}

/// Receives one blob into the store; `rest` holds bytes that came beyond the blob before.
async fn receive(
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
            return Err(store_failed(error));
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
            Ok(chunk) => *rest = chunk.into(),
            Err(status) => {
                upload.abort().await;
                return Err(status);
            }
        }
    }
    upload
        .finish(expected.blob)
        .await
        .map_err(store_failed)?
        .map_err(|found| {
            Status::data_loss(format!(
                "{} arrived with sha256 {} instead of {}",
                expected.key, found.sha256, expected.blob.sha256
            ))
        })
}
