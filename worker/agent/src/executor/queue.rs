//! The queue that a task's checkpoints take from training to the coordinator:
//!
//! ```text
//! put -> arrived -> writing -> waiting, at most 4 -> sending
//!        in memory, one        on disk, in order
//! ```
//!
//! A mid-epoch checkpoint that still waits when a later one is written is dropped: nobody needs it any more.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::checkpoint::{Checkpoint, CheckpointFiles, Moment};

/// Checkpoints on disk that may wait for a slow coordinator or store before training has to.
const WAITING: usize = 4;

/// A checkpoint on disk. Dropping it removes its files.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) moment: Moment,
    pub(crate) files: CheckpointFiles,
}

impl Written {
    fn is_mid_epoch(&self) -> bool {
        matches!(self.moment, Moment::MidEpoch(_))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for file in [&self.files.weights, &self.files.training_state] {
            let _ = std::fs::remove_file(&file.path);
        }
    }
}

/// Checkpoints between one that trains, one that writes and one that sends.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    arrived: Option<Checkpoint>,
    writing: bool,
    waiting: VecDeque<Written>,
    sending: bool,
    /// Training is over.
    complete: bool,
    /// Nothing is taken any more, because what is taken cannot be kept.
    closed: bool,
}

impl State {
    fn has_room(&self) -> bool {
        // Mid-epoch checkpoints make way.
        let staying = self.waiting.iter().filter(|w| !w.is_mid_epoch()).count();
        self.arrived.is_none() && !self.writing && staying < WAITING
    }

    fn is_idle(&self) -> bool {
        self.arrived.is_none() && !self.writing && self.waiting.is_empty() && !self.sending
    }
}

impl Queue {
    /// Takes a checkpoint as soon as there is room; drops it if the queue is closed.
    pub(crate) async fn put(&self, checkpoint: Checkpoint) {
        let mut checkpoint = Some(checkpoint);
        self.until(|state| {
            if state.closed {
                return Some(());
            }
            state.has_room().then(|| state.arrived = checkpoint.take())
        })
        .await;
    }

    /// Whether [`Self::put`] would not wait.
    pub(crate) fn has_room(&self) -> bool {
        self.look(State::has_room)
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.look(State::is_idle)
    }

    /// Whether it takes nothing any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.look(|state| state.closed)
    }

    /// Training is over: there is no other checkpoint.
    pub(crate) fn complete(&self) {
        self.change(|state| state.complete = true);
    }

    /// Takes nothing any more. What is written can still be sent.
    pub(crate) fn close(&self) {
        // Dropped after the lock.
        let _arrived = self.change(|state| {
            state.closed = true;
            state.writing = false;
            state.arrived.take()
        });
    }

    /// The next checkpoint to be written; `None` when there is no other.
    pub(crate) async fn to_write(&self) -> Option<Checkpoint> {
        self.until(|state| match state.arrived.take() {
            Some(checkpoint) => {
                state.writing = true;
                Some(Some(checkpoint))
            }
            None => (state.complete || state.closed).then_some(None),
        })
        .await
    }

    /// What [`Self::to_write`] gave is on disk.
    pub(crate) fn written(&self, written: Written) {
        // Dropped, and so removed, after the lock.
        let _superseded: VecDeque<Written> = self.change(|state| {
            state.writing = false;
            let waiting = std::mem::take(&mut state.waiting).into_iter();
            let (superseded, staying) = waiting.partition(Written::is_mid_epoch);
            state.waiting = staying;
            state.waiting.push_back(written);
            superseded
        });
    }

    /// The next checkpoint to be sent; `None` when there is no other.
    pub(crate) async fn to_send(&self) -> Option<Written> {
        self.until(|state| match state.waiting.pop_front() {
            Some(written) => {
                state.sending = true;
                Some(Some(written))
            }
            None => {
                let no_other = state.complete && state.arrived.is_none() && !state.writing;
                (no_other || state.closed).then_some(None)
            }
        })
        .await
    }

    /// Whether the checkpoint that is being sent has become one that nobody needs.
    pub(crate) fn is_superseded(&self, sending: &Written) -> bool {
        sending.is_mid_epoch() && self.look(|state| !state.waiting.is_empty())
    }

    /// What [`Self::to_send`] gave has been dealt with.
    pub(crate) fn sent(&self) {
        self.change(|state| state.sending = false);
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
        changed
    }

    /// Waits until `take` gives something; it changes the state only then.
    async fn until<T>(&self, mut take: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // Begun before looking, so that no change is missed.
            let changed = self.changed.notified();
            let taken = take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some(taken) = taken {
                self.changed.notify_waiters();
                return taken;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests;
