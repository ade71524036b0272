//! Idle workers get ready tasks.

use quartet_shared::ids::WorkerId;
use quartet_shared::position::Position;
use quartet_shared::task::{LeaseId, Task};

use super::Scheduler;
use super::config::Now;
use super::refusal::Refusal;
use super::state::{Ending, Pin, TaskRecord, TaskState, Worker, WorkerState};

/// A task that a worker has to begin, once the lease is recorded in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The new lease.
    pub lease: LeaseId,
    /// Where to go on from; the end of epoch 0 for a fresh start, and for the evaluation.
    pub resume: Position,
}

impl Scheduler {
    /// Leases ready tasks to idle workers: the run with the longest expected rest first, the evaluation
    /// when all runs have finished. A task goes to a worker on which it failed only if no other
    /// is idle. Workers that are left over stay idle as warm spares.
    ///
    /// Each lease is pinned until the shell says with [`end_grant`](Self::end_grant) whether it is recorded.
    #[must_use]
    pub fn assign(&mut self, now: Now) -> Vec<Assignment> {
        let ready = self.ready_tasks(now);
        if ready.is_empty() {
            return Vec::new();
        }
        let mut idle = self.idle_workers();
        let mut assignments = Vec::new();
        for (task, resume) in ready {
            if idle.is_empty() {
                break;
            }
            let config = self.config;
            let Ok(record) = self.record_mut(&task) else {
                continue;
            };
            let other = idle
                .iter()
                .position(|worker| !record.failed_on.contains(worker));
            let worker = idle.remove(other.unwrap_or(0));
            let lease = LeaseId {
                attempt: record.attempt.next(),
                worker,
                task,
            };
            record.grant(lease.clone(), &config, now);
            self.set_state(&lease.worker, WorkerState::Busy(lease.task.clone()));
            assignments.push(Assignment { lease, resume });
        }
        assignments
    }

    /// The record of a new lease is in the store, or could not be written. With `Ok` the worker is to be told; an error
    /// is no lease of its any more.
    pub fn end_grant(&mut self, id: &LeaseId, recorded: bool, now: Now) -> Result<(), Refusal> {
        let config = self.config;
        if let Some(lease) = self.pinned(id, Pin::Grant) {
            lease.last_progress_at = now;
            lease.expires_at = now + config.lease;
            self.record_mut(&id.task)?.unpin(&config, now);
            if !recorded {
                self.end_lease(id, Ending::Unrecorded, now);
            }
        }
        self.check(id)
    }

    /// The workers that can be given a task now.
    pub(super) fn idle_workers(&self) -> Vec<WorkerId> {
        self.idle().map(|worker| worker.info.id.clone()).collect()
    }

    /// The same without a copy. Quarantined ones are among them only when no other is there.
    pub(super) fn idle(&self) -> impl Iterator<Item = &Worker> {
        let quarantined = move |worker: &Worker| worker.is_quarantined(&self.config);
        let present = |worker: &Worker| {
            matches!(worker.state, WorkerState::Idle | WorkerState::Busy(_)) && !worker.draining
        };
        let mut workers = self.workers.values();
        let spared = workers.any(|worker| present(worker) && !quarantined(worker));
        self.workers.values().filter(move |worker| {
            worker.state == WorkerState::Idle && !(spared && quarantined(worker))
        })
    }

    /// The tasks that can be leased now, most urgent first, with the positions to resume from.
    pub(super) fn ready_tasks(&self, now: Now) -> Vec<(Task, Position)> {
        let mut runs: Vec<_> = self
            .runs
            .iter()
            .filter(|run| is_ready(&run.record, now))
            .collect();
        runs.sort_by(|a, b| b.remaining_cost().total_cmp(&a.remaining_cost()));
        let mut tasks: Vec<_> = runs
            .iter()
            .map(|run| (run.task(), run.position()))
            .collect();
        if is_ready(&self.evaluation, now) {
            tasks.push((Task::Evaluate, Position::default()));
        }
        tasks
    }
}

fn is_ready(record: &TaskRecord, now: Now) -> bool {
    matches!(record.state, TaskState::Pending { not_before } if not_before <= now)
}
