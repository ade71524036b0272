//! A task that has failed for good gets another budget, because someone asks for it.

use quartet_shared::event::Occurrence;
use quartet_shared::task::{LeaseId, Task};

use super::Scheduler;
use super::lease::Ending;
use super::refusal::Refusal;
use super::task::TaskStage;
use super::time::Now;
use super::worker::WorkerStage;

impl Scheduler {
    /// Gives a task that has failed for good another budget. An ensemble that was to be evaluated without it
    /// waits for it. Returns a lease of the evaluation that has ended with that, to be revoked.
    pub fn retry(&mut self, task: &Task, now: Now) -> Result<Option<LeaseId>, Refusal> {
        let record = self.record(task)?;
        if !matches!(record.stage, TaskStage::Failed { .. }) {
            return Err(Refusal::NotFailed { task: task.clone() });
        }
        // Whoever hears that the experiment has ended cannot go on with it.
        if self.experiment_state().has_ended() {
            return Err(Refusal::ExperimentEnded);
        }
        let evaluating = self.evaluation.lease();
        if let Some(busy) = evaluating.filter(|lease| lease.pin.is_some()) {
            let lease = busy.id.clone();
            return Err(Refusal::Busy { lease });
        }
        let evaluating = evaluating.map(|lease| lease.id.clone());
        self.record_mut(task)?.retry(now);
        self.note(Occurrence::Retried { task: task.clone() });
        if let Some(lease) = &evaluating {
            self.end_lease(lease, Ending::HandedBack, now);
            // Not idle before it says so.
            self.set_stage(&lease.worker, WorkerStage::Lost);
        }
        self.block_evaluation();
        Ok(evaluating)
    }
}
