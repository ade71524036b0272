//! Idle workers get ready tasks.

use quartet_shared::ids::{Epoch, WorkerId};
use quartet_shared::task::{LeaseId, Task};

use super::Scheduler;
use super::config::Now;
use super::state::{TaskRecord, TaskState, WorkerState};

/// A task that a worker has to begin now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The new lease.
    pub lease: LeaseId,
    /// Training only: the last committed epoch, to go on from.
    pub resume: Option<Epoch>,
}

impl Scheduler {
    /// Leases ready tasks to idle workers: the run with the longest expected rest first, the evaluation
    /// when all runs have finished. A task goes to the worker on which it failed last only if no other
    /// is idle. Workers that are left over stay idle as warm spares.
    #[must_use]
    pub fn assign(&mut self, now: Now) -> Vec<Assignment> {
        let mut idle = self.idle_workers();
        let mut assignments = Vec::new();
        for (task, resume) in self.ready_tasks(now) {
            if idle.is_empty() {
                break;
            }
            let config = self.config;
            let Ok(record) = self.record_mut(&task) else {
                continue;
            };
            let other = idle
                .iter()
                .position(|worker| record.avoid.as_ref() != Some(worker));
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

    pub(super) fn idle_workers(&self) -> Vec<WorkerId> {
        let idle = self
            .workers
            .values()
            .filter(|worker| worker.state == WorkerState::Idle);
        idle.map(|worker| worker.info.id.clone()).collect()
    }

    /// The tasks that can be leased now, most urgent first, with the epochs to resume from.
    fn ready_tasks(&self, now: Now) -> Vec<(Task, Option<Epoch>)> {
        let mut runs: Vec<_> = self
            .runs
            .iter()
            .filter(|run| is_ready(&run.record, now))
            .collect();
        runs.sort_by(|a, b| b.remaining_cost().total_cmp(&a.remaining_cost()));
        let mut tasks: Vec<_> = runs
            .iter()
            .map(|run| (run.task(), run.committed.map(|(epoch, _)| epoch)))
            .collect();
        if is_ready(&self.evaluation, now) {
            tasks.push((Task::Evaluate, None));
        }
        tasks
    }
}

fn is_ready(record: &TaskRecord, now: Now) -> bool {
    matches!(record.state, TaskState::Pending { not_before } if not_before <= now)
}
