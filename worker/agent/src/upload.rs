//! Writes checkpoints to the spool as they come, and sends them to the coordinator one after the other.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;

use futures::TryStreamExt;
use quartet_proto::v1::{self, commit_checkpoint_request::Part};
use quartet_shared::blob::Blob;
use quartet_shared::blocking;
use quartet_shared::chunks;
use quartet_shared::human;
use quartet_shared::task::LeaseId;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::context::Context;
use super::objects::local_failure;
use super::task_error::TaskError;
use crate::executor::{
    Checkpoint, CheckpointFiles, Moment, Queue, SnapshotError, Stop, Written, WrittenFile,
};

/// Messages that may wait for the network.
const CHUNKS_WAITING: usize = 2;

/// What became of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Committed,
    /// A later one is there, and this one could not be sent.
    Superseded,
    /// The coordinator keeps no mid-epoch checkpoints.
    Unsupported,
}

/// Writes and uploads every checkpoint that arrives, in order, until training ends or the task is dropped.
/// When one cannot be written, those before it are still sent.
pub(super) async fn run(context: &Context, queue: &Queue) -> Result<(), TaskError> {
    let (written, sent) = tokio::join!(
        write_all(queue, context.spool.path(), &context.assignment.lease),
        send_all(queue, context)
    );
    sent.and(written)
}

/// Writes what arrives until there is no more.
async fn write_all(queue: &Queue, folder: &Path, lease: &LeaseId) -> Result<(), TaskError> {
    while let Some(checkpoint) = queue.to_write().await {
        match write(checkpoint, folder, lease).await {
            Ok(written) => queue.written(written),
            Err(error) => {
                queue.close();
                return Err(error);
            }
        }
    }
    Ok(())
}

async fn write(
    checkpoint: Checkpoint,
    folder: &Path,
    lease: &LeaseId,
) -> Result<Written, TaskError> {
    let Checkpoint { moment, snapshot } = checkpoint;
    let position = moment.position();
    let (task, attempt) = (&lease.task, lease.attempt);
    let stem = format!("{task}-{attempt}-{}-{}", position.epoch, position.step);
    let path = folder.to_owned();
    let write = move || {
        let files = snapshot.write(&path, &stem)?;
        Ok(Written { moment, files })
    };
    let written = blocking::run(write).await;
    written.map_err(TaskError::failed)?.map_err(
        |SnapshotError {
             action,
             path,
             source,
         }| { TaskError::Failed(local_failure(action, &path, &source)) },
    )
}

/// Sends what is written until there is no more.
async fn send_all(queue: &Queue, context: &Context) -> Result<(), TaskError> {
    let lease = &context.assignment.lease;
    while let Some(written) = queue.to_send().await {
        let started = Instant::now();
        let sent = match context.control.stop() {
            Some(Stop::Drop) => Err(TaskError::Stopped),
            _ => send(queue, &written, context).await,
        };
        let position = written.moment.position();
        match sent {
            Ok(Sent::Committed) => {
                let CheckpointFiles {
                    weights,
                    training_state,
                } = &written.files;
                let size = human::size(weights.blob.size + training_state.blob.size);
                let took = human::duration(started.elapsed());
                let valid = match written.moment {
                    Moment::EpochEnd { metrics, .. } => Some(tracing::field::display(format!(
                        "loss {:.4}, accuracy {:.2} %",
                        metrics.valid_loss,
                        metrics.valid_accuracy * 100.0
                    ))),
                    Moment::MidEpoch(_) => None,
                };
                tracing::info!(%lease, %position, valid, %size, %took, "checkpoint committed");
            }
            Ok(Sent::Superseded) => {
                tracing::info!(%lease, %position, "checkpoint given up for a later one");
            }
            Ok(Sent::Unsupported) => {
                tracing::warn!(
                    %lease, %position,
                    "the coordinator keeps no mid-epoch checkpoints; this one is lost"
                );
            }
            Err(error) => {
                queue.close();
                return Err(error);
            }
        }
        drop(written);
        queue.sent();
    }
    Ok(())
}

/// Sends a checkpoint, with the repetitions of [`Calls::retry`](super::calls::Calls::retry), until it is
/// superseded.
async fn send(queue: &Queue, written: &Written, context: &Context) -> Result<Sent, TaskError> {
    let mid_epoch = matches!(written.moment, Moment::MidEpoch(_));
    let mut tries = 0;
    let call = || {
        tries += 1;
        let give_up = tries > 1 && queue.is_superseded(written);
        async move {
            if give_up {
                return Ok(Sent::Superseded);
            }
            match send_once(context, written).await {
                Err(status) if mid_epoch && status.code() == Code::Unimplemented => {
                    Ok(Sent::Unsupported)
                }
                sent => sent.map(|()| Sent::Committed),
            }
        }
    };
    context.calls.retry(call).await
}

fn header(context: &Context, Written { moment, files }: &Written) -> v1::CheckpointHeader {
    let (metrics, early_stopping) = match *moment {
        Moment::EpochEnd {
            metrics,
            early_stopping,
            ..
        } => (Some(metrics), Some(early_stopping)),
        Moment::MidEpoch(_) => (None, None),
    };
    v1::CheckpointHeader {
        lease: Some(context.assignment.lease.clone().into()),
        position: Some(moment.position().into()),
        metrics: metrics.map(Into::into),
        early_stopping: early_stopping.map(Into::into),
        weights: Some(files.weights.blob.into()),
        training_state: Some(files.training_state.blob.into()),
        secret: context.calls.secret().into(),
    }
}

async fn send_once(context: &Context, written: &Written) -> Result<(), Status> {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let files = &written.files;
    let paths = [&files.weights.path, &files.training_state.path].map(PathBuf::clone);
    let header = header(context, written);
    let reading = async move {
        let header = v1::CommitCheckpointRequest {
            part: Some(Part::Header(header)),
        };
        if sender.send(header).await.is_err() {
            return Ok(());
        }
        read_all(paths, &sender).await
    };
    let mut client = context.calls.client();
    let sending = client.commit_checkpoint(ReceiverStream::new(receiver));
    let (read, sent) = tokio::join!(reading, sending);
    // Without all bytes the coordinator has refused, but the cause is here.
    read?;
    match sent {
        Err(status) if status.code() == Code::DataLoss => {
            Err(damage(files).await.unwrap_or(status))
        }
        sent => sent.map(drop),
    }
}

/// Which file is no longer what was written, if the fault is here and not on the way: to send it again would
/// not help.
async fn damage(files: &CheckpointFiles) -> Option<Status> {
    for WrittenFile { path, blob } in [&files.weights, &files.training_state] {
        let file = path.clone();
        let found = blocking::run(move || Blob::of_file(&file)).await;
        let found = match found.map_err(io::Error::other).flatten() {
            Ok(found) => found,
            Err(error) => return Some(unreadable(path, &error)),
        };
        if found != *blob {
            let path = path.display();
            let message = format!("{path} is damaged on this disk: {found} instead of {blob}");
            return Some(Status::invalid_argument(message));
        }
    }
    None
}

async fn read_all(
    paths: [PathBuf; 2],
    sender: &mpsc::Sender<v1::CommitCheckpointRequest>,
) -> Result<(), Status> {
    for path in paths {
        let failed = |e: io::Error| unreadable(&path, &e);
        let file = File::open(&path).map_err(failed)?;
        let mut chunks = pin!(chunks::of_file(file));
        while let Some(chunk) = chunks.try_next().await.map_err(failed)? {
            let part = v1::CommitCheckpointRequest {
                part: Some(Part::Chunk(chunk)),
            };
            if sender.send(part).await.is_err() {
                // The call has ended; its status says why.
                return Ok(());
            }
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: &io::Error) -> Status {
    Status::invalid_argument(format!("cannot read {}: {error}", path.display()))
}
