//! The task at hand: an asynchronous part that talks to the coordinator, and a thread that computes.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quartet_proto::v1;
use quartet_proto::v1::fleet_client::FleetClient;
use quartet_shared::ids::{Epoch, ExperimentName};
use quartet_shared::progress::{Phase, Progress};
use quartet_shared::task::{LeaseId, Task};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::connection::CALL_TIMEOUT;
use super::objects::{Objects, Spool};
use super::session::root_cause;
use super::{Backoff, evaluation, training};
use crate::device::TrainingDevice;

/// What a task needs.
pub(super) struct Context {
    pub(super) experiment: ExperimentName,
    pub(super) lease: LeaseId,
    pub(super) resume: Option<Epoch>,
    pub(super) device: TrainingDevice,
    pub(super) client: FleetClient<Channel>,
    pub(super) objects: Objects,
    pub(super) spool: Spool,
}

/// How a task is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// At the end of the step, with all finished epochs committed.
    Drain,
    /// At the end of the step; nothing is sent any more.
    Drop,
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
}

impl Shared {
    fn new() -> Self {
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
        let mut backoff = Backoff::new();
        loop {
            let result = tokio::select! {
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
                Code::NotFound | Code::InvalidArgument | Code::PermissionDenied => {
                    return Err(TaskError::Failed(reason));
                }
                _ => {}
            }
            tracing::warn!(%reason, "call to the coordinator failed; trying again");
            if self.stop() == Some(Stop::Drain) {
                return Err(TaskError::Stopped);
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = self.stopped(Stop::Drop) => return Err(TaskError::Stopped),
            }
        }
    }
}

/// Runs `compute` on a thread of its own; a panic becomes a failure of the task.
pub(super) async fn on_thread<T: Send + 'static>(
    name: &str,
    compute: impl FnOnce() -> Result<T, TaskError> + Send + 'static,
) -> Result<T, TaskError> {
    let (sender, receiver) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(compute)).unwrap_or_else(|panic| {
                Err(TaskError::Failed(format!(
                    "panicked: {}",
                    panic_message(&*panic)
                )))
            });
            let _ = sender.send(result);
        });
    thread.map_err(|e| TaskError::Failed(format!("cannot start a thread: {e}")))?;
    receiver
        .await
        .unwrap_or_else(|_| Err(TaskError::Failed("the compute thread vanished".into())))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// A task in progress.
#[derive(Debug)]
pub(super) struct Running {
    lease: LeaseId,
    shared: Arc<Shared>,
    work: JoinHandle<()>,
}

impl Running {
    pub(super) fn start(context: Context) -> Self {
        let shared = Arc::new(Shared::new());
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

    /// Resolves when the task has ended; never without one.
    pub(super) async fn ended(running: &mut Option<Self>) {
        match running {
            // A panic was logged by its hook; the lease will expire.
            Some(running) => drop((&mut running.work).await),
            None => std::future::pending().await,
        }
    }

    /// Stops the task and waits until its thread has finished the step.
    pub(super) async fn stop(self, how: Stop) {
        self.shared.request_stop(how);
        let _ = self.work.await;
    }
}

async fn work(context: Context, shared: Arc<Shared>) {
    let (lease, client) = (context.lease.clone(), context.client.clone());
    let result = match lease.task.clone() {
        Task::Train(run) => training::run(context, run, &shared).await,
        Task::Evaluate => evaluation::run(context, &shared).await,
    };
    let (kind, reason) = match result {
        Ok(()) => return tracing::info!(%lease, "task done"),
        Err(TaskError::Failed(reason)) => (v1::ReleaseKind::Failed, reason),
        Err(TaskError::Rejected(reason)) => (v1::ReleaseKind::Rejected, reason),
        Err(TaskError::Stopped) => return tracing::info!(%lease, "task stopped"),
        Err(error) => return tracing::warn!(%lease, %error, "task dropped"),
    };
    tracing::error!(%lease, %reason, "task failed");
    let request = v1::ReleaseRequest {
        lease: Some(lease.into()),
        kind: kind.into(),
        reason,
        object: String::new(),
    };
    let release = || {
        let (mut client, request) = (client.clone(), limited(request.clone(), CALL_TIMEOUT));
        async move { client.release(request).await }
    };
    if let Err(error) = shared.call(release).await {
        tracing::warn!(%error, "could not report the failure");
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
            context.client.clone(),
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
