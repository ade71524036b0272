//! What the compute thread sees of the rest of the worker.

use std::sync::Arc;

use quartet_shared::progress::{Phase, Progress};
use tokio::sync::mpsc;

use super::running::{Shared, Stop};
use crate::train::{Control, EpochCheckpoint, Observer};

/// Carries what the compute thread says to the asynchronous side.
pub(super) struct Link {
    shared: Arc<Shared>,
    /// Where finished epochs go; an evaluation has none.
    uploads: Option<mpsc::Sender<EpochCheckpoint>>,
}

impl Link {
    pub(super) fn new(
        shared: &Arc<Shared>,
        uploads: Option<mpsc::Sender<EpochCheckpoint>>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            uploads,
        }
    }
}

impl Observer for Link {
    fn progress(&mut self, progress: Progress) {
        self.shared.set_progress(progress);
    }

    fn control(&self) -> Control {
        match self.shared.stop() {
            None => Control::Continue,
            Some(_) => Control::Stop,
        }
    }

    /// Waits while earlier checkpoints are still on their way: a slow store slows training down instead of filling the memory.
    fn epoch_done(&mut self, checkpoint: EpochCheckpoint) -> Control {
        self.shared.set_phase(Phase::Uploading);
        if let Some(uploads) = &self.uploads
            && uploads.blocking_send(checkpoint).is_err()
        {
            // The uploader has ended; its error ends the task.
            self.shared.request_stop(Stop::Drop);
        }
        self.control()
    }
}
