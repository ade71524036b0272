//! What has happened, for the experiment's history. Nothing is decided by it.

use quartet_shared::event::{AttemptEnd, Occurrence, Worker};
use quartet_shared::ids::WorkerId;
use quartet_shared::task::LeaseId;

use super::Scheduler;
use super::lease::Ending;

/// A lease that has ended without a result.
#[must_use]
pub(super) struct EndedLease {
    pub(super) lease: LeaseId,
    /// The worker's name, if an older coordinator granted the lease.
    pub(super) recorded_name: Option<String>,
    pub(super) ending: Ending,
    /// Why the task has failed for good, if it has.
    pub(super) failure: Option<String>,
}

impl Scheduler {
    /// What has happened since this was last called, in order.
    #[must_use]
    pub fn take_occurrences(&mut self) -> Vec<Occurrence> {
        std::mem::take(&mut self.occurrences)
    }

    pub(super) fn note(&mut self, what: Occurrence) {
        self.occurrences.push(what);
    }

    /// Notes something about a worker, if it has joined.
    pub(super) fn note_of(&mut self, worker: &WorkerId, what: impl FnOnce(Worker) -> Occurrence) {
        if self.workers.contains_key(worker) {
            let what = what(self.named(worker, None));
            self.note(what);
        }
    }

    /// A worker with its name.
    fn named(&self, id: &WorkerId, recorded_name: Option<String>) -> Worker {
        let known = self.workers.get(id).map(super::worker::Worker::label);
        Worker {
            id: id.clone(),
            name: known.or(recorded_name).unwrap_or_else(|| id.to_string()),
        }
    }

    pub(super) fn note_ended(&mut self, ended: EndedLease) {
        let EndedLease {
            lease,
            recorded_name,
            ending,
            failure,
        } = ended;
        let (how, reason) = match ending {
            Ending::Lost(reason) => (AttemptEnd::Lost, Some(reason)),
            Ending::Failed(failure) => (AttemptEnd::Failed, Some(failure.reason)),
            Ending::Rejected(reason) => (AttemptEnd::Rejected, Some(reason)),
            Ending::HandedBack => (AttemptEnd::HandedBack, None),
            // Its worker never heard of it.
            Ending::Unrecorded => return,
        };
        let worker = self.named(&lease.worker, recorded_name);
        let LeaseId { task, attempt, .. } = lease;
        self.note(Occurrence::AttemptEnded {
            task: task.clone(),
            attempt,
            worker,
            how,
            reason,
        });
        if let Some(reason) = failure {
            self.note(Occurrence::TaskFailed { task, reason });
        }
    }
}
