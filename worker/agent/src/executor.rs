//! The seam between network and tensors: what the agent and an executor ask of each other.
//!
//! An [`Executor`] gets a task with files on this machine. While it computes, it talks to the agent through
//! [`Link`], which implements [`Callbacks`].
//!
//! - `task`: the tasks and their results
//! - `callbacks`: what a computation tells and asks
//! - `checkpoint`: what it hands over
//! - `link`: the way from a computation to the rest of the agent
//! - `control`: progress and the request to stop
//! - `queue`: checkpoints between training, the disk and the network

mod callbacks;
mod checkpoint;
mod control;
mod link;
mod queue;
mod task;

use futures::future::BoxFuture;
use quartet_shared::gpu::GpuUse;
use quartet_shared::provenance::Provenance;
use quartet_shared::spec::Precision;

pub use callbacks::{Callbacks, Stop};
pub use checkpoint::{Checkpoint, CheckpointFiles, Moment, Snapshot, SnapshotError, WrittenFile};
pub(crate) use control::TaskControl;
pub use link::Link;
pub(crate) use link::Predicted;
pub(crate) use queue::{Queue, Written};
pub use task::{EvaluateTask, Evaluated, Member, MemberSource, Resume, TrainTask, Trained};

/// Trains and evaluates for the agent, which calls it in a tokio runtime, for one task at a time.
///
/// An implementation reports progress to [`Link`], hands it the checkpoints, asks it after every step whether
/// to stop, and drops it at the end. It never blocks the thread that polls it.
pub trait Executor: Send + Sync {
    /// Describes the device, for people.
    fn description(&self) -> String;

    /// The program and the machine, for the record of every attempt.
    fn provenance(&self) -> Provenance {
        Provenance::default()
    }

    /// How the GPU that it computes on does, if there is one that can be asked. It answers at once.
    fn gpu(&self) -> Option<GpuUse> {
        None
    }

    /// Checks that it computes in this precision.
    ///
    /// # Errors
    /// When it does not.
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

/// Why a task has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorError {
    /// Something failed that may go well another time.
    #[error("{0}")]
    Failed(String),
    /// Something failed that fails again whenever the same state is trained on.
    #[error("{0}")]
    Repeatable(String),
    /// No worker can compute it, because its input is wrong.
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
