//! The task at hand: a part that talks to the coordinator, and one that computes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quartet_proto::v1;
use quartet_shared::ids::{Epoch, ExperimentName};
use quartet_shared::position::Position;
use quartet_shared::progress::{Phase, Progress};
use quartet_shared::task::{LeaseId, Task};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use super::coordinators::{CALL_TIMEOUT, Coordinators};
use super::objects::{Objects, Spool};
use super::random::{Backoff, Random};
use super::session::root_cause;
use super::{evaluation, training};
use crate::executor::{Executor, ExecutorError, Stop};

/// What a task needs.
pub(super) struct Context {
    pub(super) experiment: ExperimentName,
    pub(super) lease: LeaseId,
    pub(super) resume: Option<Position>,
    pub(super) checkpoint_interval: Option<Duration>,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) random: Random,
    pub(super) coordinators: Coordinators,
    pub(super) objects: Objects,
    pub(super) spool: Spool,
}

/// Why a task ended without its result.
#[derive(Debug, thiserror::Error)]
pub(super) enum TaskError {
    /// It was told to stop.
    #[error("stopped")]
    Stopped,
    /// The coordinator no longer accepts anything of this lease.
    #[error("the coordinator refused it: {0}")]
    Refused(String),
    /// The task itself failed.
    #[error("{0}")]
    Failed(String),
    /// No worker can do it: what it was given is wrong.
    #[error("{0}")]
    Rejected(String),
    /// An object is not what its manifest says.
    #[error("{reason}")]
    Corrupt {
        /// Its key.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<ExecutorError> for TaskError {
    fn from(error: ExecutorError) -> Self {
        match error {
            ExecutorError::Failed(reason) => Self::Failed(reason),
            ExecutorError::Rejected(reason) => Self::Rejected(reason),
        }
    }
}

impl TaskError {
    /// A failure with all its causes.
    pub(super) fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self::Failed(format!("{:#}", error.into()))
    }
}

/// What the two parts of a task and the session share.
#[derive(Debug)]
pub(super) struct Shared {
    progress: Mutex<Progress>,
    stop: watch::Sender<Option<Stop>>,
    random: Random,
}

impl Shared {
    pub(super) fn new(random: Random) -> Self {
        let progress = Progress {
            phase: Phase::Preparing,
            epoch: Epoch(0),
            epochs: 0,
            step: 0,
            steps: 0,
            images_per_second: 0.0,
            loss: None,
            accuracy: None,
        };
        Self {
            progress: Mutex::new(progress),
            stop: watch::Sender::new(None),
            random,
        }
    }

    pub(super) fn set_progress(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .phase = phase;
    }

    pub(super) fn stop(&self) -> Option<Stop> {
        *self.stop.borrow()
    }

    pub(super) fn request_stop(&self, stop: Stop) {
        self.stop.send_replace(Some(stop));
    }

    /// Resolves when the task is to stop in the given way.
    async fn stopped(&self, how: Stop) {
        let mut changes = self.stop.subscribe();
        // The sender lives in self, so this waits until the value is there.
        let _ = changes.wait_for(|stop| *stop == Some(how)).await;
    }

    /// Calls the coordinator, again and again while it cannot be reached, until it answers or the task is dropped.
    pub(super) async fn call<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, TaskError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut backoff = Backoff::new(&self.random);
        loop {
            let result = tokio::select! {
                biased;
                result = call() => result,
                () = self.stopped(Stop::Drop) => return Err(TaskError::Stopped),
            };
            let status = match result {
                Ok(value) => return Ok(value),
                Err(status) => status,
            };
            let reason = root_cause(&status);
            match status.code() {
                Code::FailedPrecondition | Code::AlreadyExists | Code::OutOfRange => {
                    return Err(TaskError::Refused(reason));
                }
                Code::NotFound
                | Code::InvalidArgument
                | Code::PermissionDenied
                | Code::Unimplemented => {
                    return Err(TaskError::Failed(reason));
                }
                _ => {}
            }
            tracing::warn!(%reason, "call to the coordinator failed; trying again");
            tokio::select! {
                biased;
                () = tokio::time::sleep(backoff.next()) => {}
                () = self.stopped(Stop::Drop) => return Err(TaskError::Stopped),
            }
        }
    }
}

/// What has become of the lease of a task that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// As far as is known here it lasts.
    Held,
    /// The coordinator has ended it, with a result, with a failure, or on its own.
    Ended,
}

/// A task in progress.
#[derive(Debug)]
pub(super) struct Running {
    lease: LeaseId,
    shared: Arc<Shared>,
    work: JoinHandle<Lease>,
}

impl Running {
    pub(super) fn start(context: Context) -> Self {
        let shared = Arc::new(Shared::new(context.random.clone()));
        let lease = context.lease.clone();
        let work = tokio::spawn(work(context, Arc::clone(&shared)));
        Self {
            lease,
            shared,
            work,
        }
    }

    pub(super) fn lease(&self) -> &LeaseId {
        &self.lease
    }

    pub(super) fn progress(&self) -> Progress {
        *self
            .shared
            .progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when the task has ended, with what has become of its lease; never without a task.
    pub(super) async fn ended(running: &mut Option<Self>) -> Lease {
        match running {
            // A panic was logged by its hook; the lease will expire.
            Some(running) => (&mut running.work).await.unwrap_or(Lease::Held),
            None => std::future::pending().await,
        }
    }

    /// Asks the task to stop.
    pub(super) fn request_stop(&self, how: Stop) {
        self.shared.request_stop(how);
    }

    /// Stops the task and waits until it has ended.
    pub(super) async fn stop(self, how: Stop) {
        self.shared.request_stop(how);
        let _ = self.work.await;
    }
}

async fn work(context: Context, shared: Arc<Shared>) -> Lease {
    let (lease, coordinators) = (context.lease.clone(), context.coordinators.clone());
    let result = match lease.task.clone() {
        Task::Train(run) => training::run(context, run, &shared).await,
        Task::Evaluate => evaluation::run(context, &shared).await,
    };
    let (kind, reason, object) = match result {
        Ok(()) => {
            tracing::info!(%lease, "task done");
            return Lease::Ended;
        }
        Err(TaskError::Failed(reason)) => (v1::ReleaseKind::Failed, reason, String::new()),
        Err(TaskError::Rejected(reason)) => (v1::ReleaseKind::Rejected, reason, String::new()),
        Err(TaskError::Corrupt { object, reason }) => (v1::ReleaseKind::Corrupt, reason, object),
        Err(TaskError::Stopped) => {
            tracing::info!(%lease, "task stopped");
            return Lease::Held;
        }
        Err(error @ TaskError::Refused(_)) => {
            tracing::warn!(%lease, %error, "task dropped");
            return Lease::Ended;
        }
    };
    tracing::error!(%lease, %reason, "task failed");
    let request = v1::ReleaseRequest {
        lease: Some(lease.into()),
        kind: kind.into(),
        reason,
        object,
    };
    let release = || {
        let (mut client, request) = (
            coordinators.client(),
            limited(request.clone(), CALL_TIMEOUT),
        );
        async move { client.release(request).await }
    };
    match shared.call(release).await {
        Ok(_) => Lease::Ended,
        Err(error) => {
            tracing::warn!(%error, "could not report the failure");
            Lease::Held
        }
    }
}

/// Reports the result of a task.
pub(super) async fn complete(
    context: &Context,
    result: v1::complete_request::Result,
    shared: &Shared,
) -> Result<(), TaskError> {
    let request = v1::CompleteRequest {
        lease: Some(context.lease.clone().into()),
        result: Some(result),
    };
    let complete = || {
        let (mut client, request) = (
            context.coordinators.client(),
            limited(request.clone(), CALL_TIMEOUT),
        );
        async move { client.complete(request).await }
    };
    shared.call(complete).await.map(drop)
}

/// A request with a deadline.
pub(super) fn limited<T>(message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(timeout);
    request
}
