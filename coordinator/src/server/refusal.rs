//! The one place that maps errors to gRPC codes.

use std::fmt::Display;

use quartet_shared::ids::RunName;
use tonic::{Code, Status};

use super::shell::Shell;
use crate::experiment::{RuleError, read_position};
use crate::scheduler::{Found, Refusal};
use crate::store::StoreError;

/// A message that cannot be understood.
pub(super) fn bad(error: impl Display) -> Status {
    Status::invalid_argument(error.to_string())
}

/// A message without a required field.
pub(super) fn missing(field: &str) -> Status {
    Status::invalid_argument(format!("field {field:?} is missing"))
}

/// What the scheduler refused. FAILED_PRECONDITION tells the worker to drop the task.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn refused(refusal: Refusal) -> Status {
    let code = match refusal {
        Refusal::Busy { .. } => Code::Aborted,
        Refusal::AlreadyCommitted { .. } => Code::AlreadyExists,
        Refusal::OutOfOrder { .. } => Code::OutOfRange,
        _ => Code::FailedPrecondition,
    };
    Status::new(code, refusal.to_string())
}

impl Shell {
    /// A failure of the store, which a worker may retry. One that only a person can mend ends this coordinator.
    pub(super) fn store_failed(&self, error: StoreError) -> Status {
        tracing::error!(%error, "the store failed");
        if matches!(error, StoreError::NotFound { .. }) {
            return Status::not_found(error.to_string());
        }
        let status = Status::unavailable(error.to_string());
        if error.is_permanent() {
            self.give_up(
                anyhow::Error::from(error).context(
                    "mend the store, then start this again with the same --store and --name",
                ),
            );
        }
        status
    }

    /// How far a run is in the store.
    pub(super) async fn position(&self, run: &RunName) -> Result<Found, Status> {
        let read = read_position(&self.experiment, run).await;
        read.map_err(|error| match error.downcast::<StoreError>() {
            Ok(error) => self.store_failed(error),
            Err(error) => Status::unavailable(format!("{error:#}")),
        })
    }

    /// Checks that no newer coordinator has claimed the experiment; if one has, this one ends.
    pub(super) async fn check_rule(&self) -> Result<(), Status> {
        match self.experiment.check_rule().await {
            Ok(()) => Ok(()),
            Err(RuleError::Store(error)) => Err(self.store_failed(error)),
            Err(RuleError::Replaced(replaced)) => {
                let status = Status::unavailable(replaced.to_string());
                self.give_up(replaced.into());
                Err(status)
            }
        }
    }
}
