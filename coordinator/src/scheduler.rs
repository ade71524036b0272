//! Who trains what: a pure core that takes facts and the time, and returns decisions.
//!
//! A [`Scheduler`] is plain data. It knows no network, no store and no clock; the shell around it
//! tells it what happened and carries out what it decides. Its memory is a cache of the store: after a
//! restart it is made anew from a [`History`], and workers that went on meanwhile re-attach.
//!
//! - `config`: settings, the plan, what the store knows
//! - `state`: the states of tasks and workers, and how they follow from each other
//! - `record`: one task's lease, attempts and budgets
//! - `fleet`: workers join, are heard of, and go
//! - `assign`: idle workers get ready tasks
//! - `leases`: how leases end other than by completion, and when to look again
//! - `stalls`: tasks that stand still
//! - `commit`: commits and completions, which pin their lease
//! - `rewind`: back to an earlier checkpoint
//! - `view`: what people watch
//! - `refusal`: why a worker's request is refused

mod assign;
mod commit;
mod config;
mod fleet;
mod leases;
mod record;
mod refusal;
mod rewind;
mod stalls;
mod state;
mod view;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use quartet_shared::ids::{RunName, WorkerId};
use quartet_shared::task::{LeaseId, Task};

pub use assign::Assignment;
pub use commit::{CommitEnd, CommitTicket, CompleteTicket};
pub use config::{CommittedEpoch, Config, History, LastLease, Now, RunHistory, RunPlan};
pub use fleet::{HeartbeatReply, Joined};
pub use leases::{Expired, ExpiryReason, FailDecision};
pub use refusal::{Refusal, UnknownWorker};
pub use rewind::{Found, RewindTicket};
pub use state::{Completion, Lease, Run, TaskRecord, TaskState, Worker, WorkerInfo, WorkerState};
pub use view::ExperimentState;

use state::Ending;

/// The state of an experiment's tasks and of the fleet.
///
/// After every fact the shell calls [`expire_leases`](Self::expire_leases), [`report_stalls`](Self::report_stalls) and
/// [`assign`](Self::assign), and calls them again at [`next_deadline`](Self::next_deadline).
#[derive(Clone, Debug)]
pub struct Scheduler {
    config: Config,
    runs: Vec<Run>,
    evaluation: TaskRecord,
    workers: BTreeMap<WorkerId, Worker>,
}

impl Scheduler {
    /// A scheduler that goes on where `history` ends; the order of `plans` is the order of the view.
    #[must_use]
    pub fn new(config: Config, plans: Vec<RunPlan>, history: History) -> Self {
        let mut known: BTreeMap<RunName, _> = history
            .runs
            .into_iter()
            .map(|run| (run.run.clone(), run))
            .collect();
        let runs = plans.into_iter().map(|plan| {
            let history = known.remove(&plan.name);
            Run::new(plan, history, &config)
        });
        let last = history.evaluation;
        let mut scheduler = Self {
            config,
            runs: runs.collect(),
            evaluation: TaskRecord::new(Task::Evaluate, last.as_ref()),
            workers: BTreeMap::new(),
        };
        if history.evaluated {
            scheduler.evaluation.finish(Completion::Evaluated);
        } else if scheduler.all_trained() {
            scheduler.evaluation.open(last, &config);
        }
        scheduler
    }

    fn record(&self, task: &Task) -> Result<&TaskRecord, Refusal> {
        match task {
            Task::Train(name) => self.run(name).map(|run| &run.record),
            Task::Evaluate => Some(&self.evaluation),
        }
        .ok_or_else(|| Refusal::UnknownTask { task: task.clone() })
    }

    fn record_mut(&mut self, task: &Task) -> Result<&mut TaskRecord, Refusal> {
        match task {
            Task::Train(name) => self.run_mut(name).map(|run| &mut run.record),
            Task::Evaluate => Some(&mut self.evaluation),
        }
        .ok_or_else(|| Refusal::UnknownTask { task: task.clone() })
    }

    fn run_mut(&mut self, name: &RunName) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.plan.name == *name)
    }

    fn records_mut(&mut self) -> impl Iterator<Item = &mut TaskRecord> {
        let runs = self.runs.iter_mut().map(|run| &mut run.record);
        runs.chain([&mut self.evaluation])
    }

    fn records(&self) -> impl Iterator<Item = &TaskRecord> {
        self.runs
            .iter()
            .map(|run| &run.record)
            .chain([&self.evaluation])
    }

    fn all_trained(&self) -> bool {
        self.runs
            .iter()
            .all(|run| matches!(run.record.state, TaskState::Finished(_)))
    }

    /// A run that had finished is to be trained again.
    fn block_evaluation(&mut self) {
        if !self.all_trained() && matches!(self.evaluation.state, TaskState::Pending { .. }) {
            self.evaluation.state = TaskState::Blocked;
        }
    }

    fn unblock_evaluation(&mut self) {
        if self.all_trained() && self.evaluation.state == TaskState::Blocked {
            self.evaluation.state = TaskState::Pending {
                not_before: Now::default(),
            };
        }
    }

    /// Ends a live lease, now or when it is no longer pinned, and moves its worker on.
    fn end_lease(&mut self, lease: &LeaseId, ending: Ending, now: Now) {
        let config = self.config;
        if let Ok(record) = self.record_mut(&lease.task) {
            record.close(ending, &config, now);
        }
        self.free_worker(lease);
    }

    /// Moves the worker of an ended lease on, unless it is at something else by now.
    fn free_worker(&mut self, lease: &LeaseId) {
        if let Some(worker) = self.workers.get_mut(&lease.worker)
            && worker.state == WorkerState::Busy(lease.task.clone())
        {
            worker.state = worker.free_state();
        }
    }
}
