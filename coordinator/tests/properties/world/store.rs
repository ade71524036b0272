//! What the store has of each task.

use super::*;

/// What the store has of a task.
#[derive(Clone, Default)]
pub(super) struct Stored {
    /// The newest lease that is recorded.
    pub(super) lease: Option<LeaseId>,
    /// Whether a coordinator recorded that no lease was held.
    pub(super) closed: bool,
    pub(super) epochs: Vec<CommittedEpoch>,
    /// Steps of the epoch after them.
    pub(super) step: u32,
    pub(super) completion: Option<Completion>,
    pub(super) completed_by: Option<LeaseId>,
}

impl Stored {
    pub(super) fn position(&self) -> Position {
        Position {
            epoch: Epoch(self.epochs.len() as u32),
            step: self.step,
        }
    }

    pub(super) fn committed(&self) -> Committed {
        Committed {
            position: self.position(),
            last_epoch: self.epochs.last().copied(),
        }
    }

    /// Adds the next epoch; returns how far the run is then.
    pub(super) fn add_epoch(&mut self, accuracy: u8) -> Committed {
        let epoch = self.position().epoch.next();
        let result = epoch_result(self.epochs.last(), epoch, accuracy);
        self.epochs.push(result);
        self.step = 0;
        self.committed()
    }
}

pub(super) fn last_lease(stored: &Stored) -> Option<LastLease> {
    let lease = stored.lease.clone()?;
    Some(LastLease {
        attempt: lease.attempt,
        name: lease.worker.to_string(),
        worker: lease.worker,
        secret: None,
        ended: stored.closed,
        superseded: false,
    })
}

impl World {
    pub(super) fn all_trained(&self) -> bool {
        let runs = self
            .store
            .iter()
            .filter(|(task, _)| **task != Task::Evaluate);
        runs.into_iter()
            .all(|(_, stored)| stored.completion.is_some())
    }

    pub(super) fn last_epoch(&self, task: &Task) -> Epoch {
        self.store[task].position().epoch
    }

    pub(super) fn store_lease(&mut self, lease: &LeaseId) {
        let stored = self.store.get_mut(&lease.task).unwrap();
        (stored.lease, stored.closed) = (Some(lease.clone()), false);
    }

    pub(super) fn store_position(&mut self, lease: &LeaseId, position: Position, accuracy: u8) {
        let newest = self.memory[&lease.task].newest;
        assert_eq!(
            newest, lease.attempt,
            "fencing: {lease} commits after a newer attempt"
        );
        let stored = self.store.get_mut(&lease.task).unwrap();
        let before = stored.position();
        if position.step > 0 {
            assert!(
                position.epoch == before.epoch && position > before,
                "once and in order: {position} after {before} by {lease}"
            );
            stored.step = position.step;
            return;
        }
        assert_eq!(
            position.epoch,
            before.epoch.next(),
            "once and in order: {position} after {before} by {lease}"
        );
        stored.add_epoch(accuracy);
    }

    pub(super) fn store_completion(&mut self, lease: &LeaseId) {
        let last = self.last_epoch(&lease.task);
        let stored = self.store.get_mut(&lease.task).unwrap();
        assert!(
            stored.completion.is_none(),
            "once: {lease} completes what is complete"
        );
        stored.completed_by = Some(lease.clone());
        stored.completion = Some(match (&lease.task, stored.epochs.last()) {
            (Task::Evaluate, _) => Completion::Evaluated,
            (Task::Train(_), None) => panic!("complete: {lease} has no epochs"),
            (Task::Train(_), Some(committed)) => Completion::Trained(Outcome {
                epochs: last.0,
                best_epoch: committed.early_stopping.best_epoch,
                best_valid_accuracy: committed.early_stopping.best_valid_accuracy,
                stop_reason: StopReason::Epochs,
            }),
        });
    }

    pub(super) fn is_trained(&self, task: &Task) -> bool {
        let epochs = &self.store[task].epochs;
        epochs.last().is_some_and(|last| {
            epochs.len() == EPOCHS as usize || last.early_stopping.wait >= PATIENCE
        })
    }
}

/// An epoch's result; only its accuracy matters.
pub(super) fn epoch_result(
    before: Option<&CommittedEpoch>,
    epoch: Epoch,
    accuracy: u8,
) -> CommittedEpoch {
    let valid_accuracy = f64::from(accuracy) / 255.0;
    let before = before.map(|committed| committed.early_stopping);
    CommittedEpoch {
        metrics: EpochMetrics {
            valid_accuracy,
            ..EpochMetrics::default()
        },
        early_stopping: EarlyStopping::observe(before, epoch, valid_accuracy),
    }
}
