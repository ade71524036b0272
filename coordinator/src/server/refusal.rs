//! The one place that maps errors to gRPC codes.

use std::fmt::Display;

use tokio::task::JoinError;
use tonic::{Code, Status};

use crate::leadership::Replaced;
use crate::scheduler::Refusal;
use quartet_store::StoreError;

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

/// A failure of the store. UNAVAILABLE tells the worker to try again.
pub(super) fn store_failed(error: &StoreError) -> Status {
    match error {
        StoreError::NotFound { .. } => Status::not_found(error.to_string()),
        _ => Status::unavailable(error.to_string()),
    }
}

/// What the store has of a run cannot be read.
pub(super) fn unreadable(error: &anyhow::Error) -> Status {
    Status::unavailable(format!("{error:#}"))
}

/// A newer coordinator leads the experiment; the worker finds it when it tries again.
pub(super) fn replaced(error: &Replaced) -> Status {
    Status::unavailable(error.to_string())
}

/// A handler panicked.
pub(super) fn broke_off(what: &str, error: &JoinError) -> Status {
    Status::internal(format!("{what} broke off: {error}"))
}
