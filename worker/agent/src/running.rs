//! The task at hand runs apart from the session, so that heartbeats never wait for it.

use std::sync::Arc;

use quartet_proto::v1;
use quartet_shared::assignment::Inputs;
use quartet_shared::progress::Progress;
use quartet_shared::task::LeaseId;
use tokio::task::JoinHandle;

use super::context::Context;
use super::task_error::TaskError;
use super::{evaluation, log, training};
use crate::executor::{Stop, TaskControl};

/// What has become of the lease of a task that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaseStatus {
    /// As far as the worker knows, the lease lasts.
    Held,
    /// The coordinator has ended it, with a result, with a failure, or on its own.
    Ended,
}

/// A task in progress.
#[derive(Debug)]
pub(super) struct Running {
    lease: LeaseId,
    control: Arc<TaskControl>,
    work: JoinHandle<LeaseStatus>,
}

impl Running {
    pub(super) fn start(context: Context) -> Self {
        Self {
            lease: context.assignment.lease.clone(),
            control: Arc::clone(&context.control),
            work: tokio::spawn(work(context)),
        }
    }

    pub(super) fn lease(&self) -> &LeaseId {
        &self.lease
    }

    pub(super) fn progress(&self) -> Progress {
        self.control.progress()
    }

    /// Resolves when the task has ended, with what has become of its lease; never without a task.
    pub(super) async fn ended(running: &mut Option<Self>) -> LeaseStatus {
        match running {
            // A panic was logged by its hook; the lease will expire.
            Some(running) => (&mut running.work).await.unwrap_or(LeaseStatus::Held),
            None => std::future::pending().await,
        }
    }

    /// Asks the task to stop.
    pub(super) fn request_stop(&self, how: Stop) {
        self.control.request_stop(how);
    }

    /// Stops the task and waits until it has ended.
    pub(super) async fn stop(self, how: Stop) {
        self.control.request_stop(how);
        let _ = self.work.await;
    }
}

async fn work(context: Context) -> LeaseStatus {
    let lease = &context.assignment.lease;
    if let Some(log) = &context.log {
        log.begin();
    }
    tracing::info!(%lease, device = %context.executor.description(), "task begins");
    let compute = async {
        match &context.assignment.inputs {
            Inputs::Training { run, start } => training::run(&context, run, start).await,
            Inputs::Evaluation { members } => evaluation::run(&context, members).await,
        }
    };
    let result = tokio::select! {
        biased;
        result = compute => result,
        never = log::send_regularly(&context) => match never {},
    };
    let mut repeatable = false;
    let (kind, reason, object) = match result {
        Ok(()) => {
            tracing::debug!(%lease, "the coordinator has the result");
            return LeaseStatus::Ended;
        }
        Err(TaskError::Failed(reason)) => (v1::ReleaseKind::Failed, reason, String::new()),
        Err(TaskError::Repeatable(reason)) => {
            repeatable = true;
            (v1::ReleaseKind::Failed, reason, String::new())
        }
        Err(TaskError::Rejected(reason)) => (v1::ReleaseKind::Rejected, reason, String::new()),
        Err(TaskError::Corrupt { object, reason }) => (v1::ReleaseKind::Corrupt, reason, object),
        Err(TaskError::Stopped) => {
            tracing::info!(%lease, "task stopped");
            if context.control.stop() == Some(Stop::Drain) {
                log::send_rest(&context).await;
            }
            return LeaseStatus::Held;
        }
        Err(error @ TaskError::Refused(_)) => {
            tracing::warn!(%lease, %error, "task dropped");
            return LeaseStatus::Ended;
        }
    };
    tracing::error!(%lease, %reason, "task failed");
    let released = v1::ReleaseRequest {
        kind: kind.into(),
        reason,
        object,
        repeatable,
        ..v1::ReleaseRequest::default()
    };
    match context.release(released).await {
        Ok(()) => LeaseStatus::Ended,
        Err(error) => {
            tracing::warn!(%error, "could not report the failure");
            LeaseStatus::Held
        }
    }
}
