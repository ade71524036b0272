//! Checkpoints on their way to the coordinator: written to the spool and sent, one after the other.

use std::path::{Path, PathBuf};

use quartet_proto::v1::{self, commit_checkpoint_request::Part};
use quartet_shared::checkpoint::Position;
use quartet_shared::human;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::running::{Context, Shared, Stop, TaskError};
use crate::checkpoint::CheckpointFiles;
use crate::train::EpochCheckpoint;

/// Bytes of a checkpoint in one message.
const CHUNK_SIZE: usize = 1 << 20;
/// Messages that may wait for the network.
const CHUNKS_WAITING: usize = 2;

/// Uploads every checkpoint that arrives, in order, until training ends or the task is dropped.
pub(super) async fn run(
    context: &Context,
    shared: &Shared,
    mut checkpoints: mpsc::Receiver<EpochCheckpoint>,
) -> Result<(), TaskError> {
    while let Some(checkpoint) = checkpoints.recv().await {
        if shared.stop() == Some(Stop::Drop) {
            return Err(TaskError::Stopped);
        }
        let EpochCheckpoint {
            epoch,
            metrics,
            early_stopping,
            snapshot,
        } = checkpoint;
        let folder = context.spool.path().to_owned();
        let stem = format!("{epoch}-{}", context.lease.attempt);
        let files = tokio::task::spawn_blocking(move || snapshot.write(&folder, &stem))
            .await
            .map_err(TaskError::failed)?
            .map_err(TaskError::failed)?;
        let header = v1::CheckpointHeader {
            lease: Some(context.lease.clone().into()),
            position: Some(Position::end_of(epoch).into()),
            metrics: Some(metrics.into()),
            early_stopping: Some(early_stopping.into()),
            weights: Some(files.weights.blob.into()),
            training_state: Some(files.training_state.blob.into()),
        };
        let started = tokio::time::Instant::now();
        let sent = shared.call(|| send(context, header.clone(), &files)).await;
        for path in [&files.weights.path, &files.training_state.path] {
            let _ = std::fs::remove_file(path);
        }
        sent?;
        tracing::info!(
            lease = %context.lease,
            %epoch,
            size = %human::size(files.weights.blob.size + files.training_state.blob.size),
            took = %human::duration(started.elapsed()),
            "checkpoint committed"
        );
    }
    Ok(())
}

async fn send(
    context: &Context,
    header: v1::CheckpointHeader,
    files: &CheckpointFiles,
) -> Result<(), Status> {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let paths = [
        files.weights.path.clone(),
        files.training_state.path.clone(),
    ];
    let reading = async move {
        let header = v1::CommitCheckpointRequest {
            part: Some(Part::Header(header)),
        };
        if sender.send(header).await.is_err() {
            return Ok(());
        }
        read_all(paths, &sender).await
    };
    let mut client = context.client.clone();
    let sending = client.commit_checkpoint(ReceiverStream::new(receiver));
    let (read, sent) = tokio::join!(reading, sending);
    // Without all bytes the coordinator has refused, but the cause is here.
    read?;
    sent.map(drop)
}

async fn read_all(
    paths: [PathBuf; 2],
    sender: &mpsc::Sender<v1::CommitCheckpointRequest>,
) -> Result<(), Status> {
    for path in paths {
        let failed = |e: std::io::Error| unreadable(&path, &e);
        let mut file = File::open(&path).await.map_err(failed)?;
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_SIZE);
            let limit = CHUNK_SIZE as u64;
            if (&mut file)
                .take(limit)
                .read_to_end(&mut chunk)
                .await
                .map_err(failed)?
                == 0
            {
                break;
            }
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

fn unreadable(path: &Path, error: &std::io::Error) -> Status {
    Status::invalid_argument(format!("cannot read {}: {error}", path.display()))
}
