//! A worker that a test plays itself, message by message. It sends no heartbeats: its leases last for
//! `--lease`.

use bytes::Bytes;
use quartet_proto::v1;
use quartet_proto::v1::commit_checkpoint_request::Part;
use quartet_proto::v1::coordinator_message::Message;
use quartet_proto::v1::fleet_client::FleetClient;
use quartet_shared::assignment::{Assignment, Inputs, Start};
use quartet_shared::blob::Blob;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::Epoch;
use quartet_shared::position::Position;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::task::LeaseId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::processes;

/// A worker that is attached.
#[derive(Debug)]
pub struct PlayedWorker {
    /// For calls of all kinds.
    pub client: FleetClient<Channel>,
    inbox: Streaming<v1::CoordinatorMessage>,
    /// Dropped, it ends the stream.
    outbox: mpsc::Sender<v1::WorkerMessage>,
}

/// Early stopping of epochs that are all as good as the first.
#[must_use]
pub fn early_stopping(epoch: Epoch) -> EarlyStopping {
    EarlyStopping {
        best_epoch: Epoch(1),
        best_valid_accuracy: EpochMetrics::default().valid_accuracy,
        wait: epoch.0 - 1,
    }
}

/// The secret of the worker that holds a lease.
#[must_use]
pub fn secret_of(lease: &LeaseId) -> Bytes {
    processes::secret(lease.worker.as_str()).bytes().into()
}

/// The header of an epoch's checkpoint whose two files are both these bytes.
#[must_use]
pub fn header(lease: &LeaseId, epoch: Epoch, bytes: &[u8]) -> v1::CheckpointHeader {
    v1::CheckpointHeader {
        lease: Some(lease.clone().into()),
        position: Some(Position::end_of(epoch).into()),
        metrics: Some(EpochMetrics::default().into()),
        early_stopping: Some(early_stopping(epoch).into()),
        weights: Some(Blob::of(bytes).into()),
        training_state: Some(Blob::of(bytes).into()),
        secret: secret_of(lease),
    }
}

impl PlayedWorker {
    /// Attaches to a coordinator.
    pub async fn attach(coordinator: &str, id: &str) -> Self {
        let attached = Self::attach_with(coordinator, processes::hello(id, None)).await;
        attached.expect("the coordinator takes the worker")
    }

    /// Attaches with this hello.
    ///
    /// # Errors
    /// The coordinator refuses the worker.
    pub async fn attach_with(coordinator: &str, hello: v1::WorkerMessage) -> Result<Self, Status> {
        let client = FleetClient::connect(format!("http://{coordinator}")).await;
        let mut client = client.expect("the coordinator listens");
        let (outbox, messages) = mpsc::channel(1);
        // The channel is new and has room.
        let _ = outbox.try_send(hello);
        let inbox = client.attach(ReceiverStream::new(messages)).await?;
        Ok(Self {
            client,
            inbox: inbox.into_inner(),
            outbox,
        })
    }

    /// Sends a heartbeat of an idle worker whose GPU does so.
    pub async fn heartbeat(&mut self, gpu: v1::GpuUse) {
        let heartbeat = v1::Heartbeat {
            progress: None,
            gpu: Some(gpu),
        };
        let message = v1::worker_message::Message::Heartbeat(heartbeat);
        let message = Some(message);
        let sent = self.outbox.send(v1::WorkerMessage { message }).await;
        sent.expect("the stream lasts");
    }

    /// Waits until the coordinator ends the stream.
    ///
    /// # Errors
    /// Why, if it says so.
    pub async fn ended(&mut self) -> Result<(), Status> {
        while self.inbox.message().await?.is_some() {}
        Ok(())
    }

    /// The next lease, and where it goes on from.
    pub async fn assigned(&mut self) -> (LeaseId, Position) {
        loop {
            let message = self.inbox.message().await.expect("the stream lasts");
            let message = message.and_then(|message| message.message);
            let Message::Assignment(assignment) = message.expect("a message") else {
                continue;
            };
            let assignment = Assignment::try_from(assignment).expect("it makes sense");
            let position = match assignment.inputs {
                Inputs::Training {
                    start: Start::Checkpoint(checkpoint),
                    ..
                } => checkpoint.position,
                _ => Position::default(),
            };
            return (assignment.lease, position);
        }
    }

    /// Completes a task.
    ///
    /// # Errors
    /// The coordinator refuses it.
    pub async fn complete(
        &mut self,
        lease: &LeaseId,
        result: v1::complete_request::Result,
    ) -> Result<(), Status> {
        let request = v1::CompleteRequest {
            lease: Some(lease.clone().into()),
            result: Some(result),
            secret: secret_of(lease),
        };
        self.client.complete(request).await.map(drop)
    }

    /// Ends a task without a result.
    ///
    /// # Errors
    /// The coordinator refuses it.
    pub async fn release(
        &mut self,
        lease: &LeaseId,
        kind: v1::ReleaseKind,
        object: &str,
    ) -> Result<(), Status> {
        let request = v1::ReleaseRequest {
            lease: Some(lease.clone().into()),
            kind: kind.into(),
            reason: "the test wants it".to_owned(),
            object: object.to_owned(),
            secret: secret_of(lease),
            repeatable: false,
        };
        self.client.release(request).await.map(drop)
    }

    /// Commits a checkpoint whose two files are both these bytes.
    ///
    /// # Errors
    /// The coordinator refuses it.
    pub async fn commit(
        &mut self,
        header: v1::CheckpointHeader,
        bytes: &[u8],
    ) -> Result<(), Status> {
        let chunk = || Part::Chunk(Bytes::copy_from_slice(bytes));
        let parts = [Part::Header(header), chunk(), chunk()];
        let parts = parts.map(|part| v1::CommitCheckpointRequest { part: Some(part) });
        let committed = self.client.commit_checkpoint(tokio_stream::iter(parts));
        committed.await.map(drop)
    }
}
