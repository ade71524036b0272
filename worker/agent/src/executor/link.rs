//! The way from a computation to the rest of the agent.

use std::fmt;
use std::sync::Arc;

use quartet_shared::progress::{Phase, Progress};
use tokio::runtime::Handle;

use super::callbacks::{Callbacks, Stop};
use super::checkpoint::Checkpoint;
use super::control::TaskControl;
use super::queue::Queue;

/// What a computation uses to report progress, to hand over checkpoints and to learn whether it is to stop. A
/// training task ends only after its link is dropped, because another checkpoint may come until then.
pub struct Link {
    control: Arc<TaskControl>,
    /// Where checkpoints go; an evaluation has none.
    uploads: Option<Arc<Queue>>,
    /// For a thread that may block.
    runtime: Handle,
}

impl Link {
    pub(crate) fn new(control: &Arc<TaskControl>, uploads: Option<&Arc<Queue>>) -> Self {
        Self {
            control: Arc::clone(control),
            uploads: uploads.map(Arc::clone),
            runtime: Handle::current(),
        }
    }

    /// Reports how far the task is.
    pub fn progress(&self, progress: Progress) {
        self.control.set_progress(progress);
    }

    /// Whether to stop.
    #[must_use]
    pub fn stop(&self) -> Option<Stop> {
        let closed = self.uploads.as_ref().is_some_and(|queue| queue.is_closed());
        // The queue's error ends the task.
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
        self.uploads.as_ref().is_some_and(|queue| queue.is_idle())
    }

    /// Hands over a checkpoint and returns whether to stop. Waits while too many others are on their way, so
    /// that a slow store slows training down instead of filling memory and disk.
    pub async fn checkpoint(&mut self, checkpoint: Checkpoint) -> Option<Stop> {
        if let Some(queue) = &self.uploads {
            if !queue.has_room() {
                self.control.set_phase(Phase::Uploading);
            }
            queue.put(checkpoint).await;
        }
        self.stop()
    }
}

/// For an executor that computes on a thread of its own, which may block.
impl Callbacks for Link {
    fn on_progress(&mut self, progress: Progress) {
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
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(queue) = &self.uploads {
            queue.complete();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
