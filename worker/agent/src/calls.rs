//! Calls to the coordinator: with a deadline, and tried again while it cannot be reached.

use std::sync::Arc;
use std::time::Duration;

use quartet_proto::v1::fleet_client::FleetClient;
use quartet_shared::progress::Progress;
use quartet_shared::secret::Secret;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::coordinators::Coordinators;
use super::random::{Backoff, Random};
use super::task_error::TaskError;
use crate::executor::{Stop, TaskControl};

/// A task's calls to the coordinator. They end when the task is dropped.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    coordinators: Coordinators,
    secret: Secret,
    random: Random,
    control: Arc<TaskControl>,
}

impl Calls {
    pub(super) fn new(
        coordinators: Coordinators,
        secret: Secret,
        random: Random,
        control: Arc<TaskControl>,
    ) -> Self {
        Self {
            coordinators,
            secret,
            random,
            control,
        }
    }

    /// A client of the current coordinator.
    pub(super) fn client(&self) -> FleetClient<Channel> {
        self.coordinators.client()
    }

    /// The worker's secret, for calls that only it may make.
    pub(super) fn secret(&self) -> Vec<u8> {
        self.secret.bytes()
    }

    /// Reports how much of an object has come: with every mebibyte the task makes progress.
    pub(super) fn report_download(&self, bytes: u64, of: u64) {
        let mebibytes = |bytes: u64| u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
        let (step, steps) = (mebibytes(bytes), mebibytes(of));
        let preparing = Progress::preparing(0);
        self.control.set_progress(Progress {
            step,
            steps,
            ..preparing
        });
    }

    /// Makes a call, and repeats it while the coordinator cannot be reached, until it answers or the task is
    /// dropped.
    pub(super) async fn retry<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, TaskError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut backoff = Backoff::new(&self.random);
        loop {
            let result = tokio::select! {
                biased;
                result = call() => result,
                () = self.control.stopped(Stop::Drop) => return Err(TaskError::Stopped),
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
                | Code::Unauthenticated
                | Code::Unimplemented => {
                    return Err(TaskError::Failed(reason));
                }
                _ => {}
            }
            tracing::warn!(%reason, "call to the coordinator failed; trying again");
            tokio::select! {
                biased;
                () = tokio::time::sleep(backoff.next()) => {}
                () = self.control.stopped(Stop::Drop) => return Err(TaskError::Stopped),
            }
        }
    }
}

/// A request with a deadline.
pub(super) fn limited<T>(message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(timeout);
    request
}

/// The first cause of a status: "connection refused" rather than "transport error".
pub(super) fn root_cause(status: &Status) -> String {
    let mut error: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut cause = status.message().to_owned();
    while let Some(inner) = error {
        cause = inner.to_string();
        error = inner.source();
    }
    cause
}
