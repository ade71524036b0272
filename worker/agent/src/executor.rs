//! What the agent asks of whatever computes, and what that tells the agent: the seam between network and tensors.
//!
//! An [`Executor`] gets a task with files on this machine. While it computes, it talks to [`Callbacks`].

mod checkpoint;
mod task;

use futures::future::BoxFuture;
use quartet_shared::progress::Progress;
use quartet_shared::spec::Precision;

use crate::link::Link;

pub use checkpoint::{Checkpoint, CheckpointFiles, Moment, Snapshot, SnapshotError, WrittenFile};
pub use task::{EvaluateTask, Evaluated, Member, Resume, TrainTask, Trained};

/// Trains and evaluates for the agent, which calls it in a tokio runtime, for one task at a time.
///
/// An implementation tells [`Link`] how far it is, hands it the checkpoints, asks it after every step whether to stop,
/// and drops it at the end. It never blocks the thread that polls it.
pub trait Executor: Send + Sync {
    /// What it is, for people.
    fn description(&self) -> String;

    /// Whether it computes in this precision.
    ///
    /// # Errors
    /// It does not.
    fn check_precision(&self, precision: Precision) -> Result<(), UnsupportedPrecision>;

    /// Trains a run to its end, or until `link` stops it.
    fn train(&self, task: TrainTask, link: Link) -> BoxFuture<'_, Result<Trained, ExecutorError>>;

    /// Evaluates the ensemble, or until `link` stops it.
    fn evaluate(
        &self,
        task: EvaluateTask,
        link: Link,
    ) -> BoxFuture<'_, Result<Evaluated, ExecutorError>>;
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorError {
    /// Something failed that may go well another time.
    #[error("{0}")]
    Failed(String),
    /// Nobody can compute it: what it was given is wrong.
    #[error("{0}")]
    Rejected(String),
}

impl ExecutorError {
    /// A failure with all its causes.
    #[must_use]
    pub fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self::Failed(format!("{:#}", error.into()))
    }
}

/// An experiment's precision that a device does not compute in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "precision = \"{}\" of the experiment is computed on LibTorch only: start a worker with --backend tch, \
     built with deploy/libtorch.sh, or set precision = \"f32\"",
    .0.as_str()
)]
pub struct UnsupportedPrecision(pub Precision);

/// How a task is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At the end of the step, with its state and all checkpoints before it committed.
    Drain,
    /// At the end of the step; nothing of it is of use any more.
    Drop,
}

/// What a computation tells, and what it asks. The methods are called on the computing thread and must not take long.
pub trait Callbacks: Send {
    /// The task has got on; called at most a few times a second.
    fn on_progress(&mut self, progress: Progress);

    /// Whether to stop, asked after every step.
    fn stop(&self) -> Option<Stop>;

    /// Asked when a mid-epoch checkpoint is due: whether it would be of use. If not, it is due again after the next step.
    fn wants_mid_epoch_checkpoint(&self) -> bool;

    /// Takes a checkpoint: an epoch is done, a mid-epoch checkpoint is due, or the task drains. The answer is that of
    /// [`Self::stop`], or [`Stop::Drop`] because checkpoints cannot be kept; after a run's last epoch it changes nothing.
    fn on_checkpoint(&mut self, checkpoint: Checkpoint) -> Option<Stop>;
}
