//! Why a connection ends otherwise than well.

use tonic::{Code, Status};

use super::calls::root_cause;
use crate::executor::UnsupportedPrecision;

/// The coordinator refuses this worker, and another try would not help: its keys, its version, what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator at {coordinator} refuses this worker: {reason}")]
pub struct Refused {
    /// Its address, or the addresses that it may have.
    pub coordinator: String,
    /// What it said.
    pub reason: String,
}

/// Why a connection ended although the worker is neither dismissed nor drained.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// The connection is gone, or was never there.
    #[error("{reason}")]
    Lost { reason: String, was_attached: bool },
    /// The coordinator has no experiment for this worker now.
    #[error("the coordinator has no experiment for this worker now: {0}")]
    NoExperiment(String),
    /// This worker can never work for this coordinator.
    #[error("the coordinator refuses this worker: {0}")]
    Refused(String),
    /// The executor does not compute in the experiment's precision.
    #[error(transparent)]
    Unsupported(UnsupportedPrecision),
    /// The task does not stop.
    #[error("{0}")]
    Stuck(String),
}

impl SessionError {
    pub(super) fn lost(reason: impl Into<String>, was_attached: bool) -> Self {
        Self::Lost {
            reason: reason.into(),
            was_attached,
        }
    }

    pub(super) fn from_status(status: &Status, was_attached: bool) -> Self {
        match status.code() {
            Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated => Self::Refused(status.message().to_owned()),
            _ => Self::lost(root_cause(status), was_attached),
        }
    }
}
