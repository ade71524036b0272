//! Calls to the coordinator: with a deadline, and tried again while it cannot be reached.

use std::sync::Arc;
use std::time::Duration;

use quartet_proto::v1::fleet_client::FleetClient;
use quartet_shared::chunks::CHUNK_SIZE;
use quartet_shared::progress::Progress;
use quartet_shared::secret::Secret;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::coordinators::Coordinators;
use super::random::{Backoff, Random};
use super::task_error::TaskError;
use crate::executor::{Stop, TaskControl};

/// How often in a row the coordinator may answer a call by an error of its own before the task fails.
const MAX_ERRORS: u32 = 10;

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

    /// Reports how much of an object has come: with every chunk the task makes progress.
    pub(super) fn report_download(&self, bytes: u64, of: u64) {
        let chunks = |bytes: u64| u32::try_from(bytes / CHUNK_SIZE as u64).unwrap_or(u32::MAX);
        let (step, steps) = (chunks(bytes), chunks(of));
        let preparing = Progress::preparing(0);
        self.control.set_progress(Progress {
            step,
            steps,
            ..preparing
        });
    }

    /// Makes a call, and repeats it while the coordinator or its store cannot be reached, until it answers or
    /// the task is dropped. An answer by an error that another try may avoid is taken [`MAX_ERRORS`] times.
    pub(super) async fn retry<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, TaskError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut backoff = Backoff::new(&self.random);
        let mut errors = 0;
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
                // What comes from the connection itself has a source.
                Code::Internal | Code::Unknown | Code::DataLoss | Code::ResourceExhausted
                    if std::error::Error::source(&status).is_none() =>
                {
                    errors += 1;
                    if errors == MAX_ERRORS {
                        let failed = format!("{reason} (tried {errors} times)");
                        return Err(TaskError::Failed(failed));
                    }
                }
                _ => errors = 0,
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

/// The status of a transfer that broke off after something had come: what is left may come on another try,
/// whatever the reason.
pub(super) fn broke_off(status: Status) -> Status {
    match status.code() {
        Code::Internal | Code::Unknown | Code::DataLoss | Code::ResourceExhausted => {
            Status::unavailable(root_cause(&status))
        }
        _ => status,
    }
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use quartet_proto::channel::Connector;

    use super::*;

    fn calls() -> Calls {
        let addresses = ["nowhere:1".parse().unwrap()];
        let coordinators = Coordinators::new(&addresses, Connector::tcp()).unwrap();
        let control = Arc::new(TaskControl::new());
        Calls::new(coordinators, Secret::new(1), Random::new(1), control)
    }

    /// How a call ends whose tries fail so until the `succeeds`-th, and how often it was tried.
    async fn retried(
        succeeds: u32,
        failure: impl Fn(u32) -> Status,
    ) -> (Result<(), TaskError>, u32) {
        let tries = Cell::new(0);
        let call = || {
            tries.set(tries.get() + 1);
            let answer = match tries.get() {
                n if n >= succeeds => Ok(()),
                n => Err(failure(n)),
            };
            async move { answer }
        };
        (calls().retry(call).await, tries.get())
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_stays_fails_the_task() {
        for code in [
            Code::Internal,
            Code::Unknown,
            Code::DataLoss,
            Code::ResourceExhausted,
        ] {
            let (ended, tries) = retried(1000, |_| Status::new(code, "no")).await;
            let Err(TaskError::Failed(reason)) = ended else {
                panic!("{code}: {ended:?}")
            };
            assert_eq!((&reason[..], tries), ("no (tried 10 times)", 10));
        }
        let (ended, tries) = retried(10, |_| Status::internal("no")).await;
        assert!(ended.is_ok());
        assert_eq!(tries, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_coordinator_that_cannot_be_reached_is_waited_for() {
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Aborted] {
            let (ended, tries) = retried(1000, |_| Status::new(code, "not yet")).await;
            assert!(ended.is_ok());
            assert_eq!(tries, 1000);
        }
        // A connection that breaks counts for nothing, and what it brings apart is not in a row.
        let broken = |_| Status::from_error(Box::new(std::io::Error::other("reset")));
        assert!(retried(1000, broken).await.0.is_ok());
        let mixed = |n: u32| match n % 9 {
            0 => Status::unavailable("restarting"),
            _ => Status::internal("no"),
        };
        assert!(retried(1000, mixed).await.0.is_ok());
    }
}
