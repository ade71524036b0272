//! What people call a worker.

use std::collections::BTreeSet;

use quartet_shared::task::LeaseId;

use super::Scheduler;
use super::lease::Lease;
use super::task::TaskRecord;
use super::worker::Worker;

impl Worker {
    /// Its name as people see it: `cpu@node7`, and `cpu@node7 #2` if another connected worker has that.
    #[must_use]
    pub fn label(&self) -> String {
        match self.number {
            0 | 1 => self.info.name.clone(),
            number => format!("{} #{number}", self.info.name),
        }
    }
}

impl Scheduler {
    /// The number of a worker that joins: the one that it had, else the least that no other has.
    pub(super) fn free_number(&self, name: &str, had: Option<u32>) -> u32 {
        let others = self.workers.values();
        let others = others.filter(|other| other.connected && other.info.name == name);
        let taken: BTreeSet<u32> = others.map(|other| other.number).collect();
        let free = (1..).find(|number| !taken.contains(number));
        had.filter(|number| !taken.contains(number))
            .or(free)
            .unwrap_or(1)
    }

    /// What people call the worker of a lease.
    #[must_use]
    pub fn label_of(&self, lease: &Lease) -> String {
        let known = self.workers.get(&lease.id.worker).map(Worker::label);
        let recorded = || lease.recorded_name().map(str::to_owned);
        known
            .or_else(recorded)
            .unwrap_or_else(|| lease.id.worker.to_string())
    }

    /// Why a task needs another worker, for people: `worker gpu-1@node7 was lost: no heartbeat for 15 s`.
    pub(super) fn loss(&self, lease: &LeaseId, reason: &str) -> String {
        let held = self.record(&lease.task).ok().and_then(TaskRecord::lease);
        let worker = match held.filter(|held| held.id == *lease) {
            Some(held) => self.label_of(held),
            None => lease.worker.to_string(),
        };
        format!("worker {worker} {reason}")
    }
}
