//! Who trains what: a pure core that takes facts and the time, and returns decisions.
//!
//! A [`Scheduler`] is plain data. It knows no network, no store and no clock. The shell around it
//! tells it what happened and carries out what it decides. Its memory is a cache of the store: after a
//! restart it is made anew from a [`History`], and workers that went on meanwhile re-attach.
//!
//! The nouns:
//! - `lease`: when a lease is granted, renewed, pinned, reclaimed, and when it expires
//! - `task`: a task's stage, its newest lease, and its failure counts
//! - `run`: how far a training run is in the store
//! - `worker`: a worker, and what it is told
//!
//! What happens to them:
//! - `attendance`: how workers attach, are heard of, and go
//! - `assignment`: idle workers get ready tasks
//! - `transaction`: writes to the store under a lease: grant, commit, completion, rollback
//! - `release`: a worker ends its task without a result; `drain`: it is asked to
//! - `retry`: a task that has failed for good gets another budget
//! - `timeouts`: what happens as time passes, and when to look again
//!
//! What goes in and out:
//! - `config`, `time`: timers and budgets, and the time that the caller passes in
//! - `history`: what the store knows when a coordinator starts
//! - `refusal`: why a worker's request is refused
//! - `view`: what people see; `names`: what they call a worker
//! - `occurrences`: what has happened, for the history

mod assignment;
mod attendance;
mod config;
mod drain;
mod history;
mod lease;
mod names;
mod occurrences;
mod refusal;
mod release;
mod retry;
mod run;
mod task;
mod time;
mod timeouts;
mod transaction;
mod view;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use quartet_shared::event::{self, AttemptEnd, Occurrence};
use quartet_shared::ids::{ExperimentId, RunName, WorkerId};
use quartet_shared::spec::Ensemble;
use quartet_shared::task::{LeaseId, Task};

pub use assignment::{Grant, Reserve};
pub use config::Config;
pub use drain::DrainCause;
pub use history::{History, RunHistory};
pub use lease::{ExpiryReason, LastLease, Lease};
pub use refusal::{Refusal, UnknownWorker};
pub use release::{FailDecision, Failure};
pub use run::{Committed, CommittedEpoch, Run, RunSettings};
pub use task::{Completion, TaskRecord};
pub use time::Now;
pub use timeouts::Expired;
pub use transaction::{CommitEnd, CommitTicket, CompleteTicket, KeepTicket, RollbackTicket};
pub use worker::{HeartbeatReply, Joined, Worker, WorkerInfo};

use lease::Ending;
use task::TaskStage;

/// The state of an experiment's tasks and of the fleet.
///
/// After every fact the shell calls [`expire_leases`](Self::expire_leases),
/// [`report_stalls`](Self::report_stalls) and [`assign`](Self::assign), and calls them again at
/// [`next_deadline`](Self::next_deadline).
#[derive(Clone, Debug)]
pub struct Scheduler {
    experiment: ExperimentId,
    config: Config,
    runs: Vec<Run>,
    evaluation: TaskRecord,
    workers: BTreeMap<WorkerId, Worker>,
    /// No worker that is not connected loses its lease to a spare before.
    earliest_reclaim: Now,
    /// What has happened and was not taken yet.
    occurrences: Vec<Occurrence>,
}

impl Scheduler {
    /// A scheduler that goes on where `history` ends; the order of `runs` is the order of the view.
    #[must_use]
    pub fn new(
        experiment: ExperimentId,
        config: Config,
        runs: Vec<RunSettings>,
        history: History,
    ) -> Self {
        let mut known: BTreeMap<RunName, _> = history
            .runs
            .into_iter()
            .map(|run| (run.run.clone(), run))
            .collect();
        let mut superseded = Vec::new();
        let runs = runs.into_iter().map(|settings| {
            let (last, committed, outcome) = match known.remove(&settings.name) {
                Some(history) => (history.lease, history.committed, history.outcome),
                None => Default::default(),
            };
            if let Some(last) = last
                .as_ref()
                .filter(|last| last.superseded && outcome.is_none())
            {
                superseded.push((Task::Train(settings.name.clone()), last.clone()));
            }
            Run::new(&experiment, settings, last, committed, outcome, &config)
        });
        let runs = runs.collect();
        let last = history.evaluation;
        let newest = last
            .as_ref()
            .map(|last| last.id(&experiment, Task::Evaluate));
        let mut scheduler = Self {
            experiment,
            config,
            runs,
            evaluation: TaskRecord::new(newest),
            workers: BTreeMap::new(),
            earliest_reclaim: Now::default(),
            occurrences: Vec::new(),
        };
        if history.evaluated {
            scheduler.evaluation.finish(Completion::Evaluated);
        } else if scheduler.can_evaluate() {
            superseded.extend(
                last.clone()
                    .filter(|last| last.superseded)
                    .map(|last| (Task::Evaluate, last)),
            );
            scheduler.evaluation.open(last, &config);
        } else {
            // A run that had failed is tried again, or one is new, and the evaluation waits for it.
            superseded.extend(last.map(|last| (Task::Evaluate, last)));
        }
        for (task, last) in superseded {
            scheduler.note_superseded(task, last);
        }
        scheduler
    }

    /// The lease that an older coordinator granted has ended with the start of this one.
    fn note_superseded(&mut self, task: Task, last: LastLease) {
        if last.ended {
            return;
        }
        self.note(Occurrence::AttemptEnded {
            task,
            attempt: last.attempt,
            worker: event::Worker {
                id: last.worker,
                name: last.name,
            },
            how: AttemptEnd::HandedBack,
            reason: None,
        });
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
        self.runs.iter_mut().find(|run| run.settings.name == *name)
    }

    /// The run that a lease is for; `None` for the evaluation.
    fn run_of_mut(&mut self, lease: &LeaseId) -> Option<&mut Run> {
        match &lease.task {
            Task::Train(name) => self.run_mut(name),
            Task::Evaluate => None,
        }
    }

    fn records(&self) -> impl Iterator<Item = &TaskRecord> {
        let runs = self.runs.iter().map(|run| &run.record);
        runs.chain([&self.evaluation])
    }

    fn records_mut(&mut self) -> impl Iterator<Item = &mut TaskRecord> {
        let runs = self.runs.iter_mut().map(|run| &mut run.record);
        runs.chain([&mut self.evaluation])
    }

    /// Whether nothing remains to be trained, and the ensemble may be of what there is.
    fn can_evaluate(&self) -> bool {
        let runs = &self.runs;
        let finished = || runs.iter().filter(|run| run.record.is_finished());
        let ended = runs.iter().all(|run| run.record.state().has_ended());
        let partial = match self.config.ensemble {
            Ensemble::Finished => ended && finished().any(|run| run.settings.has_weight),
            Ensemble::All => false,
        };
        finished().count() == runs.len() || partial
    }

    /// A run that had finished, or had failed for good, is to be trained again.
    fn block_evaluation(&mut self) {
        if !self.can_evaluate() && matches!(self.evaluation.stage, TaskStage::Pending { .. }) {
            self.evaluation.stage = TaskStage::Blocked;
        }
    }

    fn unblock_evaluation(&mut self) {
        if self.can_evaluate() && self.evaluation.stage == TaskStage::Blocked {
            self.evaluation.stage = TaskStage::Pending {
                not_before: Now::default(),
            };
        }
    }

    /// Ends a live lease without a result, now or when it is no longer pinned, and frees its worker.
    fn end_lease(&mut self, lease: &LeaseId, ending: Ending, now: Now) {
        let config = self.config;
        let record = self.record_mut(&lease.task).ok();
        let ended = record.and_then(|record| record.close(ending, &config, now));
        if let Some(ended) = ended {
            self.note_ended(ended);
            self.unblock_evaluation();
        }
        self.free_worker(lease);
    }

    /// Frees the worker of an ended lease, unless it works on another task by now.
    fn free_worker(&mut self, lease: &LeaseId) {
        if let Some(worker) = self.workers.get_mut(&lease.worker)
            && worker.task() == Some(&lease.task)
        {
            worker.set_free();
        }
    }

    /// The worker of a lease has succeeded: its earlier failures count no more.
    fn reset_worker(&mut self, lease: &LeaseId) {
        if let Some(worker) = self.workers.get_mut(&lease.worker) {
            worker.failed.clear();
        }
    }
}
