//! How the session and a task's executor reach each other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use quartet_shared::progress::{Phase, Progress};
use tokio::sync::watch;

use super::callbacks::Stop;

/// What the parts of a task and the session share: how far the task is, and whether it is to stop.
#[derive(Debug)]
pub(crate) struct TaskControl {
    progress: Mutex<Progress>,
    stop: watch::Sender<Option<Stop>>,
}

impl TaskControl {
    pub(crate) fn new() -> Self {
        Self {
            progress: Mutex::new(Progress::preparing(0)),
            stop: watch::Sender::new(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn progress(&self) -> Progress {
        *self.lock()
    }

    pub(crate) fn set_progress(&self, progress: Progress) {
        *self.lock() = progress;
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    pub(crate) fn stop(&self) -> Option<Stop> {
        *self.stop.borrow()
    }

    pub(crate) fn request_stop(&self, stop: Stop) {
        self.stop.send_replace(Some(stop));
    }

    /// Resolves when the task is to stop in the given way.
    pub(crate) async fn stopped(&self, how: Stop) {
        let mut changes = self.stop.subscribe();
        // The sender lives in self, so this waits until the value is there.
        let _ = changes.wait_for(|stop| *stop == Some(how)).await;
    }
}
