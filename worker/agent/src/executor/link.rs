//! The way from a computation to the rest of the agent.

use std::fmt;
use std::sync::Arc;

use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::predictions::Predictions;
use quartet_shared::progress::{Phase, Progress};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::callbacks::{Callbacks, Stop};
use super::checkpoint::Checkpoint;
use super::control::TaskControl;
use super::queue::Queue;

/// What a computation uses to report progress, to hand over results and to learn whether it is to stop. A
/// task ends only after its link is dropped, because more may come until then.
pub struct Link {
    control: Arc<TaskControl>,
    results: Results,
    /// For a thread that may block.
    runtime: Handle,
    /// The last epoch that the log has.
    told: Option<Epoch>,
}

/// What a run's network says of the images.
pub(crate) type Predicted = (RunName, Predictions);

/// Where results go.
enum Results {
    Checkpoints(Arc<Queue>),
    Predictions(mpsc::UnboundedSender<Predicted>),
}

impl Link {
    /// For a training.
    pub(crate) fn training(control: &Arc<TaskControl>, uploads: &Arc<Queue>) -> Self {
        Self::new(control, Results::Checkpoints(Arc::clone(uploads)))
    }

    /// For an evaluation.
    pub(crate) fn evaluation(
        control: &Arc<TaskControl>,
        predicted: mpsc::UnboundedSender<Predicted>,
    ) -> Self {
        Self::new(control, Results::Predictions(predicted))
    }

    fn new(control: &Arc<TaskControl>, results: Results) -> Self {
        Self {
            control: Arc::clone(control),
            results,
            runtime: Handle::current(),
            told: None,
        }
    }

    /// Reports how far the task is.
    pub fn progress(&self, progress: Progress) {
        self.control.set_progress(progress);
    }

    /// Whether to stop.
    #[must_use]
    pub fn stop(&self) -> Option<Stop> {
        let closed = match &self.results {
            Results::Checkpoints(queue) => queue.is_closed(),
            Results::Predictions(predicted) => predicted.is_closed(),
        };
        // The error of whoever takes the results ends the task.
        if closed {
            Some(Stop::Drop)
        } else {
            self.control.stop()
        }
    }

    /// Whether a mid-epoch checkpoint that is due is of use. It is not while an earlier checkpoint is on its
    /// way.
    #[must_use]
    pub fn wants_mid_epoch_checkpoint(&self) -> bool {
        matches!(&self.results, Results::Checkpoints(queue) if queue.is_idle())
    }

    /// Hands over a checkpoint and returns whether to stop. Waits while too many others are on their way, so
    /// that a slow store slows training down instead of filling memory and disk.
    pub async fn checkpoint(&mut self, checkpoint: Checkpoint) -> Option<Stop> {
        if let Results::Checkpoints(queue) = &self.results {
            if !queue.has_room() {
                self.control.set_phase(Phase::Uploading);
            }
            queue.put(checkpoint).await;
        }
        self.stop()
    }

    /// Hands over what a run's network says of the evaluated images.
    pub fn predictions(&self, run: &RunName, predictions: &Predictions) {
        if let Results::Predictions(predicted) = &self.results {
            // Who no longer listens has told why.
            let _ = predicted.send((run.clone(), predictions.clone()));
        }
    }
}

/// For an executor that computes on a thread of its own, which may block.
impl Callbacks for Link {
    fn on_progress(&mut self, progress: Progress) {
        let Progress { epoch, epochs, .. } = progress;
        if progress.phase == Phase::Training && self.told.replace(epoch) != Some(epoch) {
            tracing::info!(%epoch, of = epochs, steps = progress.steps, "trains an epoch");
        }
        self.progress(progress);
    }

    fn stop(&self) -> Option<Stop> {
        Link::stop(self)
    }

    fn wants_mid_epoch_checkpoint(&self) -> bool {
        Link::wants_mid_epoch_checkpoint(self)
    }

    fn on_checkpoint(&mut self, checkpoint: Checkpoint) -> Option<Stop> {
        let runtime = self.runtime.clone();
        runtime.block_on(self.checkpoint(checkpoint))
    }

    fn on_predictions(&mut self, run: &RunName, predictions: &Predictions) {
        self.predictions(run, predictions);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Results::Checkpoints(queue) = &self.results {
            queue.complete();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
