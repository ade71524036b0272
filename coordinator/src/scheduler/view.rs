//! What people watch: the experiment, its tasks and the fleet.

use std::time::Duration;

use quartet_shared::ids::{Attempt, Epoch, RunName, WorkerId};
use quartet_shared::outcome::Outcome;

use super::Scheduler;
use super::config::{CommittedEpoch, Config, Now};
use super::state::{Completion, Lease, Run, TaskRecord, TaskState, Worker, WorkerState};

/// Where the experiment is.
///
/// ```text
/// Waiting <──workers come and go──> Training ──all runs finished──> Evaluating ──> Finished
///    └────────────────────────────────┴──some run failed, the others have ended──> Failed
/// ```
/// A failed evaluation fails the experiment as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExperimentState {
    /// Runs remain, and no worker is there.
    Waiting,
    /// Runs remain, and workers are there.
    Training,
    /// All runs have finished, the evaluation has not.
    Evaluating,
    /// All is done.
    Finished,
    /// At least one task has failed, and nothing is left that could be done.
    Failed {
        /// What failed and why, a line each.
        reasons: Vec<String>,
    },
}

impl ExperimentState {
    /// Whether nothing is left to be done.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Finished | Self::Failed { .. })
    }
}

impl Lease {
    /// The name of its worker, if an older coordinator gave the lease and the worker has not come back yet.
    #[must_use]
    pub fn restored(&self) -> Option<&String> {
        self.restored.as_ref()
    }

    /// How long its worker, which is not connected, may take at most to come back.
    #[must_use]
    pub fn awaited(&self, now: Now) -> Option<Duration> {
        self.reclaimable_at?;
        Some(self.expires_at.since(now))
    }
}

impl Scheduler {
    /// Where the experiment is.
    #[must_use]
    pub fn experiment_state(&self) -> ExperimentState {
        match self.evaluation.state {
            TaskState::Finished(_) => return ExperimentState::Finished,
            TaskState::Failed { .. } => {
                return ExperimentState::Failed {
                    reasons: self.reasons(),
                };
            }
            TaskState::Pending { .. } | TaskState::Leased(_) => return ExperimentState::Evaluating,
            TaskState::Blocked => {}
        }
        let open = |run: &Run| {
            matches!(
                run.record.state,
                TaskState::Pending { .. } | TaskState::Leased(_)
            )
        };
        if !self.runs.iter().any(open) {
            ExperimentState::Failed {
                reasons: self.reasons(),
            }
        } else if self.workers_present() == 0 {
            ExperimentState::Waiting
        } else {
            ExperimentState::Training
        }
    }

    fn reasons(&self) -> Vec<String> {
        let runs = self
            .runs
            .iter()
            .map(|run| (run.plan.name.as_str(), &run.record));
        runs.chain([("evaluation", &self.evaluation)])
            .filter_map(|(name, record)| match &record.state {
                TaskState::Failed { reason } => Some(format!("{name}: {reason}")),
                _ => None,
            })
            .collect()
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The runs, in the order of the plan.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The run of this name.
    #[must_use]
    pub fn run(&self, name: &RunName) -> Option<&Run> {
        self.runs.iter().find(|run| run.plan.name == *name)
    }

    /// The evaluation.
    #[must_use]
    pub fn evaluation(&self) -> &TaskRecord {
        &self.evaluation
    }

    /// The workers that have joined, in the order of their ids; lost ones for a while.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// Whether any lease has not ended, or is about to end but not yet gone.
    #[must_use]
    pub fn has_leases(&self) -> bool {
        let mut records = self.records();
        records.any(|record| matches!(record.state, TaskState::Leased(_)))
    }

    /// Whether a worker is counted as lost.
    #[must_use]
    pub fn is_lost(&self, worker: &WorkerId) -> bool {
        let known = self.workers.get(worker);
        known.is_some_and(|worker| worker.state == WorkerState::Lost)
    }

    /// Whether so many different tasks failed on a worker that it gets no more as long as another is there.
    #[must_use]
    pub fn is_quarantined(&self, worker: &Worker) -> bool {
        worker.is_quarantined(&self.config)
    }

    /// How many workers are there now, of the expected ones.
    #[must_use]
    pub fn workers_present(&self) -> usize {
        self.workers
            .values()
            .filter(|worker| worker.state != WorkerState::Lost)
            .count()
    }
}

impl TaskRecord {
    /// Where the task is.
    #[must_use]
    pub fn state(&self) -> &TaskState {
        &self.state
    }

    /// The lease, while there is one.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            TaskState::Leased(lease) => Some(lease),
            _ => None,
        }
    }

    /// The newest attempt, 0 before the first.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// Workers lost while they held it, since the last commit or since this coordinator started.
    #[must_use]
    pub fn worker_losses(&self) -> u32 {
        self.worker_losses
    }

    /// Failures of its own, since the last commit or since this coordinator started.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Why it has failed, else why its last lost or failed attempt ended.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match &self.state {
            TaskState::Failed { reason } => Some(reason),
            _ => self.last_reason.as_deref(),
        }
    }
}

impl Run {
    /// Its state, lease and attempts.
    #[must_use]
    pub fn record(&self) -> &TaskRecord {
        &self.record
    }

    /// The last committed epoch.
    #[must_use]
    pub fn committed(&self) -> Option<(Epoch, &CommittedEpoch)> {
        self.committed
            .as_ref()
            .map(|(epoch, committed)| (*epoch, committed))
    }

    /// The result, once it has finished.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.record.state {
            TaskState::Finished(Completion::Trained(outcome)) => Some(outcome),
            _ => None,
        }
    }
}
