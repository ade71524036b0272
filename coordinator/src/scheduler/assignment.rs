//! Idle workers get ready tasks.

use quartet_shared::ids::WorkerId;
use quartet_shared::position::Position;
use quartet_shared::spec::Precision;
use quartet_shared::task::{LeaseId, Task};

use super::Scheduler;
use super::run::Run;
use super::task::TaskRecord;
use super::time::Now;
use super::worker::{Worker, WorkerStage};

/// Workers that are left without a task, because others want them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// How many.
    pub workers: usize,
    /// In which precision they compute.
    pub precision: Precision,
}

/// A lease for a worker, to be recorded in the store before the worker hears of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The new lease.
    pub lease: LeaseId,
    /// Where to resume; the end of epoch 0 for a fresh start, and for the evaluation.
    pub resume: Position,
}

impl Scheduler {
    /// Leases ready tasks to idle workers: the run with the most expected work left first, the
    /// evaluation when all runs have ended. A task goes to a worker on which it failed only if no
    /// other is idle; what another try can only repeat waits for another, if there is one. Workers that are
    /// left over stay idle as warm spares.
    ///
    /// Each lease is pinned until the shell says with [`end_grant`](Self::end_grant) whether it is
    /// recorded.
    #[must_use]
    pub fn assign(&mut self, now: Now) -> Vec<Grant> {
        self.assign_but(now, None)
    }

    /// The same, but of the workers that stay those that `reserve` names get nothing.
    #[must_use]
    pub fn assign_but(&mut self, now: Now, reserve: Option<Reserve>) -> Vec<Grant> {
        let ready = self.ready_tasks(now);
        if ready.is_empty() {
            return Vec::new();
        }
        let mut idle = self.idle_workers();
        if let Some(reserve) = reserve {
            let mut left = reserve.workers;
            idle.retain(|worker| {
                let is_kept = left > 0 && self.can_move(worker, reserve.precision);
                left -= usize::from(is_kept);
                !is_kept
            });
        }
        let mut grants = Vec::new();
        for (task, resume) in ready {
            if idle.is_empty() {
                break;
            }
            let (config, experiment) = (self.config, self.experiment.clone());
            let Ok(record) = self.record_mut(&task) else {
                continue;
            };
            let other = idle
                .iter()
                .position(|worker| !record.counts.failed_on.contains(worker));
            let worker = idle.remove(other.unwrap_or(0));
            let lease = LeaseId {
                experiment,
                attempt: record.attempt().next(),
                worker,
                task,
            };
            record.grant(lease.clone(), &config, now);
            self.set_stage(&lease.worker, WorkerStage::Busy(lease.task.clone()));
            grants.push(Grant { lease, resume });
        }
        grants
    }

    /// The workers that can be given a task now.
    #[must_use]
    pub fn idle_workers(&self) -> Vec<WorkerId> {
        self.idle().map(|worker| worker.info.id.clone()).collect()
    }

    /// The same without a copy. Quarantined ones are among them only if no other worker is there.
    pub(super) fn idle(&self) -> impl Iterator<Item = &Worker> {
        let quarantined = move |worker: &Worker| worker.is_quarantined(&self.config);
        let mut workers = self.workers.values();
        let spared = workers.any(|worker| worker.may_work() && !quarantined(worker));
        self.workers.values().filter(move |worker| {
            worker.stage == WorkerStage::Idle && !(spared && quarantined(worker))
        })
    }

    /// The tasks that can be leased now, most urgent first, with the positions to resume from.
    #[must_use]
    pub fn ready_tasks(&self, now: Now) -> Vec<(Task, Position)> {
        let is_ready =
            |record: &TaskRecord| record.is_ready(now) && !self.waits_for_another(record);
        let runs = self.runs.iter().filter(|run| is_ready(&run.record));
        let mut runs: Vec<&Run> = runs.collect();
        runs.sort_by(|a, b| b.remaining_cost().total_cmp(&a.remaining_cost()));
        let mut tasks: Vec<_> = runs
            .iter()
            .map(|run| (run.task(), run.position()))
            .collect();
        if is_ready(&self.evaluation) {
            tasks.push((Task::Evaluate, Position::default()));
        }
        tasks
    }

    /// Whether a task that failed in a way which another try can only repeat is not tried now, because it
    /// failed on all workers that are idle, and another is connected that will be idle some time.
    pub(super) fn waits_for_another(&self, record: &TaskRecord) -> bool {
        let counts = &record.counts;
        let is_other = |worker: &Worker| !counts.failed_on.contains(&worker.info.id);
        counts.repeatable > 0
            && !self.idle().any(is_other)
            && self
                .workers
                .values()
                .any(|worker| worker.may_work() && worker.connected && is_other(worker))
    }
}
