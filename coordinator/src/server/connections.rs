//! The workers' streams: who is attached, and what is sent to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quartet_proto::v1::{self, coordinator_message::Message};
use quartet_shared::ids::WorkerId;
use quartet_shared::task::LeaseId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Messages that wait for one worker's stream.
pub(super) type Outbox = mpsc::Sender<Result<v1::CoordinatorMessage, tonic::Status>>;

/// How many messages may wait for a worker; more means that its stream is dead.
pub(super) const OUTBOX_SIZE: usize = 16;

/// A worker's current stream.
struct Attached {
    /// Tells this stream from an older one of the same worker, whose end comes late.
    stream: u64,
    outbox: Outbox,
}

#[derive(Default)]
struct Streams {
    last: u64,
    attached: BTreeMap<WorkerId, Attached>,
    /// Workers that have gone to look for the next coordinator.
    sent_on: BTreeSet<WorkerId>,
}

/// The workers' streams.
#[derive(Default)]
pub(super) struct Connections {
    streams: Mutex<Streams>,
    /// Whether workers are sent away instead of getting tasks.
    stopping: CancellationToken,
    /// Whether workers are no longer served. Unlike a watch channel, a token wakes its waiters in order:
    /// a simulation must replay.
    closed: CancellationToken,
}

impl Connections {
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a stream as the worker's current one and returns its sequence number.
    pub(super) fn attach(&self, worker: WorkerId, outbox: Outbox) -> u64 {
        let mut streams = self.streams();
        streams.last += 1;
        let stream = streams.last;
        streams.sent_on.remove(&worker);
        streams.attached.insert(worker, Attached { stream, outbox });
        stream
    }

    /// Removes a worker's stream that has ended. False if it is not the worker's current one.
    pub(super) fn detach(&self, worker: &WorkerId, stream: u64) -> bool {
        let mut streams = self.streams();
        let attached = streams.attached.get(worker);
        let current = attached.is_some_and(|attached| attached.stream == stream);
        if current {
            streams.attached.remove(worker);
        }
        current
    }

    /// A worker has gone to look for the next coordinator.
    pub(super) fn sent_on(&self, worker: &WorkerId) {
        self.streams().sent_on.insert(worker.clone());
    }

    /// How many workers have gone to look for the next coordinator, or will once this one has ended: these.
    pub(super) fn staying(&self, mut connected: BTreeSet<WorkerId>) -> usize {
        connected.extend(self.streams().sent_on.iter().cloned());
        connected.len()
    }

    /// The workers that are attached.
    pub(super) fn workers(&self) -> Vec<WorkerId> {
        self.streams().attached.keys().cloned().collect()
    }

    /// Puts a message into a worker's outbox. The missing heartbeats of a worker whose outbox is full or
    /// gone will be noticed.
    pub(super) fn send(&self, worker: &WorkerId, message: Message) {
        let message = v1::CoordinatorMessage {
            message: Some(message),
        };
        let streams = self.streams();
        let attached = streams.attached.get(worker);
        let sent = attached.is_some_and(|attached| attached.outbox.try_send(Ok(message)).is_ok());
        if !sent {
            tracing::debug!(%worker, "no stream takes the message");
        }
    }

    /// Tells a worker that its lease has ended.
    pub(super) fn revoke(&self, lease: &LeaseId, reason: &str) {
        let revocation = v1::Revocation {
            lease: Some(lease.clone().into()),
            reason: reason.to_owned(),
        };
        self.send(&lease.worker, Message::Revocation(revocation));
    }

    /// Tells a worker that the experiment has ended.
    pub(super) fn dismiss(&self, worker: &WorkerId) {
        let reason = "the experiment has ended".to_owned();
        self.send(worker, Message::Goodbye(v1::Goodbye { reason }));
    }

    /// From now on workers are sent away instead of getting tasks.
    pub(super) fn stop(&self) {
        self.stopping.cancel();
    }

    /// Whether workers are sent away instead of getting tasks.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Ends every worker's stream: no further messages are taken.
    pub(super) fn close(&self) {
        self.closed.cancel();
        self.streams().attached.clear();
    }

    /// Whether workers are no longer served.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Resolves when workers are no longer served.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Whether any worker's stream is open.
    pub(super) fn has_workers(&self) -> bool {
        !self.streams().attached.is_empty()
    }
}
