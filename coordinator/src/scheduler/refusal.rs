//! Why the scheduler refuses what a worker asks for.

use quartet_shared::ids::{Attempt, Epoch, RunName, WorkerId};
use quartet_shared::position::Position;
use quartet_shared::task::{LeaseId, Task};

/// A refusal. Its message is for people who read the worker's log.
///
/// A worker may ask again after [`Busy`](Self::Busy); after all others it drops the task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The experiment has no such task.
    #[error("this experiment has no run {task}")]
    UnknownTask {
        /// What was asked for.
        task: Task,
    },
    /// The lease has ended: it expired, was handed back or failed, or the task has a newer one.
    #[error("{lease} has ended; the newest attempt is {newest}")]
    StaleLease {
        /// The lease that was named.
        lease: LeaseId,
        /// The newest attempt of its task.
        newest: Attempt,
    },
    /// The task was completed under another lease.
    #[error("{task} has ended already")]
    Ended {
        /// The task.
        task: Task,
    },
    /// Another transaction under the lease is in progress.
    #[error("another upload or completion of {lease} is in progress")]
    Busy {
        /// The lease.
        lease: LeaseId,
    },
    /// The position is committed. That is no error if this lease committed it and missed the answer.
    #[error("{position} of {task} is committed already")]
    AlreadyCommitted {
        /// The run.
        task: Task,
        /// What was offered.
        position: Position,
    },
    /// Epochs are committed one after the other.
    #[error("{position} of {task} is out of order: epoch {expected} is next")]
    OutOfOrder {
        /// The run.
        task: Task,
        /// What was offered.
        position: Position,
        /// The epoch that has to come.
        expected: Epoch,
    },
    /// The run has fewer epochs, or the task has none at all.
    #[error("{task} has no {position}")]
    NoSuchPosition {
        /// The task.
        task: Task,
        /// What was offered.
        position: Position,
    },
    /// Only the evaluation predicts, and only with the experiment's runs.
    #[error("{task} has no predictions of {run}")]
    NoPredictions {
        /// The task.
        task: Task,
        /// What was offered.
        run: RunName,
    },
    /// Only a task that has failed for good gets another budget.
    #[error("{task} has not failed for good")]
    NotFailed {
        /// The task.
        task: Task,
    },
    /// Nothing is done any more.
    #[error("the experiment has ended; start the coordinator again: it tries again what failed")]
    ExperimentEnded,
    /// Epochs are missing, and early stopping does not end the run before them.
    #[error("{task} is not complete with {committed} committed epochs")]
    Incomplete {
        /// The run.
        task: Task,
        /// The last committed epoch, 0 for none.
        committed: Epoch,
    },
}

/// A worker that has not joined, or whose connection has ended: it has to join (again).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("worker {0} has not joined")]
pub struct UnknownWorker(pub WorkerId);
