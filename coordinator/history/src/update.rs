//! How a record goes on while an experiment is coordinated.

use quartet_shared::event::{Event, Occurrence};
use quartet_shared::ids::{Attempt, Epoch, RunName};
use quartet_shared::provenance::Provenance;
use quartet_shared::report::EvaluationReport;
use quartet_shared::task::Task;

use crate::attempts;
use crate::record::{EpochSummary, ExperimentRecord, RunRecord};

/// Events of a record that is kept in memory; the oldest of the fleet are forgotten.
pub(crate) const MAX_EVENTS: usize = 5000;

/// Something that is new in the store, or will be soon.
#[derive(Clone, Debug)]
pub enum Update {
    /// Something has happened.
    Happened(Event),
    /// An attempt that has begun is recorded with its worker's program and machine.
    Recorded(Task, Attempt, Box<Provenance>),
    /// An epoch of a run is committed.
    Committed(RunName, Box<EpochSummary>),
    /// The epochs of a run were read again.
    Reread(RunName, Vec<EpochSummary>),
    /// The ensemble is evaluated.
    Evaluated(Box<EvaluationReport>),
}

impl ExperimentRecord {
    /// Takes something new. What is known already changes nothing.
    pub fn apply(&mut self, update: Update) {
        match update {
            Update::Happened(event) => {
                self.tell(&event);
                self.events.push(event);
                forget_fleet(&mut self.events, MAX_EVENTS);
            }
            Update::Recorded(task, attempt, provenance) => {
                let attempts = match &task {
                    Task::Train(run) => self.run_mut(run).map(|run| &mut run.attempts),
                    Task::Evaluate => Some(&mut self.evaluation_attempts),
                };
                let mut attempts = attempts.into_iter().flatten();
                if let Some(found) = attempts.find(|one| one.attempt == attempt) {
                    found.provenance = *provenance;
                }
            }
            Update::Committed(run, epoch) => {
                let Some(run) = self.run_mut(&run) else {
                    return;
                };
                // One that is trained again follows the epochs before it.
                run.epochs.retain(|known| known.epoch < epoch.epoch);
                run.epochs.push(*epoch);
            }
            Update::Reread(run, mut epochs) => {
                let Some(run) = self.run_mut(&run) else {
                    return;
                };
                // What was committed while they were read comes after them.
                let last = epochs.last().map_or_else(Epoch::default, |last| last.epoch);
                let later = run.epochs.drain(..).filter(|known| known.epoch > last);
                epochs.extend(later);
                run.epochs = epochs;
            }
            Update::Evaluated(report) => self.report = Some(*report),
        }
    }

    /// Adds what an event says to the tasks that it is about.
    pub(crate) fn tell(&mut self, event: &Event) {
        if let Occurrence::CoordinatorStarted { term, .. } = &event.what {
            self.term = Some(*term);
            self.closed = false;
            // It begins again what had failed, and evaluates anew what was evaluated without that.
            self.evaluation_failure = None;
            self.report.take_if(|report| report.partial.is_some());
            for run in &mut self.runs {
                run.failure = None;
            }
        }
        let term = self.term.unwrap_or_default();
        match event.what.task() {
            Some(Task::Train(run)) => {
                if let Some(run) = self.run_mut(&run) {
                    run.tell(event);
                    attempts::happened(&mut run.attempts, event, term);
                }
            }
            Some(Task::Evaluate) => {
                attempts::happened(&mut self.evaluation_attempts, event, term);
                match &event.what {
                    Occurrence::TaskFailed { reason, .. } => {
                        self.evaluation_failure = Some(reason.clone());
                    }
                    _ => self.evaluation_failure = None,
                }
            }
            None => {}
        }
    }

    fn run_mut(&mut self, name: &RunName) -> Option<&mut RunRecord> {
        self.runs.iter_mut().find(|run| run.spec.name == *name)
    }
}

/// Forgets the oldest events of the fleet, a tenth of `most` at once, if there are more events than that.
pub fn forget_fleet(events: &mut Vec<Event>, most: usize) {
    if events.len() <= most {
        return;
    }
    let mut surplus = events.len() - most + most / 10;
    events.retain(|event| {
        let is_kept = surplus == 0 || !event.what.is_of_fleet();
        surplus -= usize::from(!is_kept);
        is_kept
    });
}

impl RunRecord {
    fn tell(&mut self, event: &Event) {
        match &event.what {
            Occurrence::TaskFailed { reason, .. } => self.failure = Some(reason.clone()),
            Occurrence::AttemptStarted { .. } | Occurrence::Retried { .. } => self.failure = None,
            Occurrence::RunFinished { outcome, .. } => {
                self.outcome = Some(*outcome);
                self.failure = None;
            }
            Occurrence::RolledBack { to, .. } => {
                self.outcome = None;
                self.epochs.retain(|epoch| epoch.epoch <= to.epoch);
            }
            _ => {}
        }
    }
}
