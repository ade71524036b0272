//! The worker's current task, which outlives connections: its start, the request to stop, and its end.

use std::time::Duration;

use quartet_shared::shutdown::Shutdown;
use quartet_shared::task::LeaseId;
use tokio::time::Instant;

use super::context::Context;
use super::parting::Destination;
use super::running::{LeaseStatus, Running};
use crate::executor::Stop;

/// What happens whether there is a connection or not.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A signal asks the worker to leave.
    Leave,
    /// The task has ended, and this is what has become of its lease.
    TaskEnded(LeaseStatus),
    /// The task should have ended by now.
    Overdue,
}

/// A request to stop that the task has not followed yet.
#[derive(Clone, Copy, Debug)]
struct Stopping {
    deadline: Instant,
    /// Where the worker goes then. Otherwise it has lost its lease, and says nothing until the task has
    /// ended.
    destination: Option<Destination>,
    /// Whether the task has been told to drop its state.
    dropped: bool,
}

/// The task at hand, if there is one.
#[derive(Debug)]
pub(super) struct CurrentTask {
    running: Option<Running>,
    stopping: Option<Stopping>,
    /// How long it may take to stop.
    grace: Duration,
}

impl CurrentTask {
    pub(super) fn none(grace: Duration) -> Self {
        Self {
            running: None,
            stopping: None,
            grace,
        }
    }

    pub(super) fn grace(&self) -> Duration {
        self.grace
    }

    pub(super) fn is_none(&self) -> bool {
        self.running.is_none()
    }

    /// Whether there is a task with this lease.
    pub(super) fn has(&self, lease: &LeaseId) -> bool {
        self.running.as_ref().is_some_and(|r| r.lease() == lease)
    }

    /// The task, unless its lease is lost.
    pub(super) fn held(&self) -> Option<&Running> {
        let lost = self.stopping.is_some() && !self.leaves();
        self.running.as_ref().filter(|_| !lost)
    }

    /// Where the worker goes when the task has ended, if it leaves its coordinator.
    fn destination(&self) -> Option<Destination> {
        self.stopping.and_then(|stopping| stopping.destination)
    }

    /// Whether the worker leaves its coordinator when the task has ended.
    pub(super) fn leaves(&self) -> bool {
        self.destination().is_some()
    }

    /// Starts a task in place of any other.
    pub(super) async fn start(&mut self, context: Context) {
        self.stop().await;
        self.stopping = None;
        self.running = Some(Running::start(context));
    }

    /// Stops the task without handing it back.
    pub(super) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop(Stop::Drop).await;
        }
    }

    /// Asks the task to commit its state and to end, after which the worker leaves its coordinator. Of two
    /// such requests the one to exit counts. Returns whether there is a task.
    pub(super) fn leave(&mut self, destination: Destination) -> bool {
        let Some(running) = &self.running else {
            return false;
        };
        match &mut self.stopping {
            Some(stopping) => stopping.destination = stopping.destination.max(Some(destination)),
            None => {
                running.request_stop(Stop::Drain);
                self.stop_by_deadline(Stop::Drain, Some(destination));
            }
        }
        true
    }

    /// The lease is lost: asks the task to end after its step. The worker sends nothing of it any more.
    pub(super) fn revoke(&mut self, lease: &LeaseId, reason: &str) {
        let dropped = self.stopping.is_some_and(|stopping| stopping.dropped);
        if let Some(running) = self.held().filter(|r| r.lease() == lease && !dropped) {
            tracing::warn!(%lease, %reason, "lease revoked; the task is dropped");
            running.request_stop(Stop::Drop);
            self.stop_by_deadline(Stop::Drop, self.destination());
        }
    }

    /// The deadline has passed, perhaps because the coordinator was gone first. A worker that stays need not
    /// exit for that: it drops the state, and has as much time again. Returns whether it does.
    pub(super) fn drop_state(&mut self) -> bool {
        match (&mut self.stopping, &self.running) {
            (Some(stopping), Some(running))
                if stopping.destination == Some(Destination::NextCoordinator)
                    && !stopping.dropped =>
            {
                running.request_stop(Stop::Drop);
                (stopping.deadline, stopping.dropped) = (Instant::now() + self.grace, true);
                true
            }
            _ => false,
        }
    }

    fn stop_by_deadline(&mut self, stop: Stop, destination: Option<Destination>) {
        let deadline = Instant::now() + self.grace;
        self.stopping = Some(Stopping {
            deadline,
            destination,
            dropped: stop == Stop::Drop,
        });
    }

    /// Forgets the task, which has ended. Returns its lease, and where the worker goes, if it leaves its
    /// coordinator now.
    pub(super) fn forget(&mut self) -> Option<(LeaseId, Destination)> {
        let destination = self.destination();
        self.stopping = None;
        let running = self.running.take()?;
        Some((running.lease().clone(), destination?))
    }

    /// The next event. Dropping the future loses nothing.
    pub(super) async fn event(&mut self, shutdown: &Shutdown) -> Event {
        let exits = self.destination() == Some(Destination::Exit);
        let deadline = self.stopping.map(|stopping| stopping.deadline);
        let overdue = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.triggered(), if !exits => Event::Leave,
            lease = Running::ended(&mut self.running) => Event::TaskEnded(lease),
            () = overdue => Event::Overdue,
        }
    }
}
