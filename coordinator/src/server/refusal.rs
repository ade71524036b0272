//! The one place that maps errors to gRPC codes.

use std::fmt::Display;

use tonic::{Code, Status};

use crate::scheduler::Refusal;
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
        Refusal::NotAttached { .. } => Code::Unavailable,
        Refusal::AlreadyCommitted { .. } => Code::AlreadyExists,
        Refusal::OutOfOrder { .. } => Code::OutOfRange,
        _ => Code::FailedPrecondition,
    };
    Status::new(code, refusal.to_string())
}

/// A failure of the store, which a worker may retry.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn store_failed(error: StoreError) -> Status {
    tracing::error!(%error, "the store failed");
    match error {
        StoreError::NotFound { .. } => Status::not_found(error.to_string()),
        _ => Status::unavailable(error.to_string()),
    }
}
