//! What a computation tells the agent, and what it asks.

use quartet_shared::ids::RunName;
use quartet_shared::predictions::Predictions;
use quartet_shared::progress::Progress;

use super::checkpoint::Checkpoint;

/// How a task is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At the end of the step, with its state and all checkpoints before it committed.
    Drain,
    /// At the end of the step. Nothing of the task is of use any more.
    Drop,
}

/// What a computation calls. The methods run on the computing thread and must not take long.
pub trait Callbacks: Send {
    /// Reports progress. The computation calls this at most a few times a second.
    fn on_progress(&mut self, progress: Progress);

    /// Whether to stop. The computation asks after every step.
    fn stop(&self) -> Option<Stop>;

    /// Whether a mid-epoch checkpoint that is due would be of use. If not, it is due again after the next
    /// step.
    fn wants_mid_epoch_checkpoint(&self) -> bool;

    /// Takes a checkpoint, because an epoch is done, a mid-epoch checkpoint is due, or the task drains.
    ///
    /// The answer is that of [`Self::stop`], or [`Stop::Drop`] when checkpoints cannot be kept. After a run's
    /// last epoch the answer changes nothing.
    fn on_checkpoint(&mut self, checkpoint: Checkpoint) -> Option<Stop>;

    /// Takes what a member says of the evaluated images, once it is computed. What is kept of it spares later
    /// attempts the work.
    fn on_predictions(&mut self, run: &RunName, predictions: &Predictions);
}
