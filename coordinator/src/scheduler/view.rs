//! What people see: the experiment, its runs and the fleet.

use quartet_shared::ids::{RunName, WorkerId};
use quartet_shared::state::ExperimentState;
use quartet_shared::task::Task;

use super::Scheduler;
use super::config::Config;
use super::run::Run;
use super::task::{TaskRecord, TaskStage};
use super::worker::{Worker, WorkerStage};

impl Scheduler {
    /// The state of the experiment.
    #[must_use]
    pub fn experiment_state(&self) -> ExperimentState {
        match self.evaluation.stage {
            // Of an ensemble that lacks runs.
            TaskStage::Finished(_) if self.has_failed_runs() => return ExperimentState::Failed,
            TaskStage::Finished(_) => return ExperimentState::Finished,
            TaskStage::Failed { .. } => return ExperimentState::Failed,
            TaskStage::Pending { .. } | TaskStage::Leased(_) => return ExperimentState::Evaluating,
            TaskStage::Blocked => {}
        }
        let open = |run: &Run| {
            matches!(
                run.record.stage,
                TaskStage::Pending { .. } | TaskStage::Leased(_)
            )
        };
        if !self.runs.iter().any(open) {
            ExperimentState::Failed
        } else if self
            .workers()
            .all(|worker| worker.stage == WorkerStage::Lost)
        {
            ExperimentState::Waiting
        } else {
            ExperimentState::Training
        }
    }

    fn has_failed_runs(&self) -> bool {
        let mut runs = self.runs.iter();
        runs.any(|run| matches!(run.record.stage, TaskStage::Failed { .. }))
    }

    /// What has failed for good and why, a line each.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let runs = self.runs.iter();
        let runs = runs.map(|run| (run.settings.name.as_str(), &run.record));
        runs.chain([("evaluation", &self.evaluation)])
            .filter_map(|(name, record)| match &record.stage {
                TaskStage::Failed { reason } => Some(format!("{name}: {reason}")),
                _ => None,
            })
            .collect()
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The runs, in the order of the experiment's spec.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The run of this name.
    #[must_use]
    pub fn run(&self, name: &RunName) -> Option<&Run> {
        self.runs.iter().find(|run| run.settings.name == *name)
    }

    /// The evaluation.
    #[must_use]
    pub fn evaluation(&self) -> &TaskRecord {
        &self.evaluation
    }

    /// Whether someone works on a task.
    #[must_use]
    pub fn is_leased(&self, task: &Task) -> bool {
        self.record(task)
            .is_ok_and(|record| record.lease().is_some())
    }

    /// The workers that have joined, in the order of their ids; lost ones for a while.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// Whether any lease has not ended, or is about to end but pinned.
    #[must_use]
    pub fn has_leases(&self) -> bool {
        self.records().any(|record| record.lease().is_some())
    }

    /// Whether a worker is counted as lost.
    #[must_use]
    pub fn is_lost(&self, worker: &WorkerId) -> bool {
        let known = self.workers.get(worker);
        known.is_some_and(|worker| worker.stage == WorkerStage::Lost)
    }
}
