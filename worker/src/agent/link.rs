//! What a computation sees of the rest of the worker.

use std::fmt;
use std::sync::Arc;

use quartet_shared::progress::{Phase, Progress};

use super::queue::Queue;
use super::running::{Shared, Stop};
use crate::train::{Checkpoint, Control};

/// Carries what a computation says to the rest of the worker, and back whether it is to go on. A training task ends only
/// after this is dropped: there may be another checkpoint until then.
pub struct Link {
    shared: Arc<Shared>,
    /// Where checkpoints go; an evaluation has none.
    uploads: Option<Arc<Queue>>,
}

impl Link {
    pub(super) fn new(shared: &Arc<Shared>, uploads: Option<&Arc<Queue>>) -> Self {
        Self {
            shared: Arc::clone(shared),
            uploads: uploads.map(Arc::clone),
        }
    }

    /// Tells how far the task is.
    pub fn progress(&self, progress: Progress) {
        self.shared.set_progress(progress);
    }

    /// Whether to go on.
    #[must_use]
    pub fn control(&self) -> Control {
        let closed = self.uploads.as_ref().is_some_and(|queue| queue.is_closed());
        match self.shared.stop() {
            // Its error ends the task.
            _ if closed => Control::Stop,
            None => Control::Continue,
            Some(Stop::Drain) => Control::Drain,
            Some(Stop::Drop) => Control::Stop,
        }
    }

    /// Whether a state within an epoch that is due is of use: not while an earlier checkpoint is still on its way.
    #[must_use]
    pub fn wants_state(&self) -> bool {
        self.uploads.as_ref().is_some_and(|queue| queue.is_idle())
    }

    /// Hands over a checkpoint and returns whether to go on. Waits while too many others are on their way: a slow store
    /// slows training down instead of filling memory and disk.
    pub async fn checkpoint(&mut self, checkpoint: Checkpoint) -> Control {
        if let Some(queue) = &self.uploads {
            if !queue.has_room() {
                self.shared.set_phase(Phase::Uploading);
            }
            queue.put(checkpoint).await;
        }
        self.control()
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
