//! Why a task ends without a result.

use crate::executor::ExecutorError;

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
    /// It failed, and fails again whenever the same state is trained on.
    #[error("{0}")]
    Repeatable(String),
    /// No worker can do it, because its input is wrong.
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
            ExecutorError::Repeatable(reason) => Self::Repeatable(reason),
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
