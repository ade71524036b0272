//! An experiment as plain data.

use std::time::Duration;

use quartet_shared::blob::BlobRef;
use quartet_shared::clock::Timestamp;
use quartet_shared::dataset::Split;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::event::{AttemptEnd, Event, Occurrence};
use quartet_shared::ids::{Attempt, Epoch, RunName, Term};
use quartet_shared::outcome::Outcome;
use quartet_shared::position::Position;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::provenance::Provenance;
use quartet_shared::report::{EvaluationReport, Partial};
use quartet_shared::spec::{Ensemble, RunSpec};
use quartet_shared::state::TaskState;
use quartet_shared::task::Task;
use quartet_store::manifest::{Manifest, StoredSpec};
use serde::Serialize;

/// Why a run failed whose coordinator did not come to record it.
const UNKNOWN_FAILURE: &str = "its coordinator ended before it could record why";

/// All that a store says of an experiment.
#[derive(Clone, Debug)]
pub struct ExperimentRecord {
    /// What is trained, on what.
    pub spec: StoredSpec,
    /// The runs, in the order of the spec.
    pub runs: Vec<RunRecord>,
    /// The attempts to evaluate the ensemble.
    pub evaluation_attempts: Vec<AttemptSummary>,
    /// Why the evaluation has failed for good.
    pub evaluation_failure: Option<String>,
    /// The ensemble's evaluation.
    pub report: Option<EvaluationReport>,
    /// What happened, in order; experiments of earlier versions have nothing here.
    pub events: Vec<Event>,
    /// The newest coordinator's claim.
    pub term: Option<Term>,
    /// Whether that coordinator has recorded that it ended, and nobody worked any more.
    pub closed: bool,
    /// Objects that cannot be read, each with the reason. What they say is missing here.
    pub unreadable: Vec<String>,
}

/// Where an experiment stands, as far as a store can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The ensemble is evaluated.
    Finished,
    /// A task has failed for good, and nobody works on the others.
    Failed,
    /// Its last coordinator has stopped before the end.
    Stopped,
    /// Its last coordinator works, or was killed.
    Unfinished,
}

impl Standing {
    /// As a lower-case word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Unfinished => "unfinished",
        }
    }
}

/// What a store says of a run.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// What is trained.
    pub spec: RunSpec,
    /// Its committed epochs, in order.
    pub epochs: Vec<EpochSummary>,
    /// Its attempts, in order.
    pub attempts: Vec<AttemptSummary>,
    /// Its result, once it is trained.
    pub outcome: Option<Outcome>,
    /// Why it has failed for good.
    pub failure: Option<String>,
}

/// A committed epoch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EpochSummary {
    /// The epoch.
    pub epoch: Epoch,
    /// The attempt that trained it.
    pub attempt: Attempt,
    /// When it was committed; earlier versions did not say it.
    pub committed_at: Option<Timestamp>,
    /// Its metrics.
    pub metrics: EpochMetrics,
    /// Best epoch and patience after it.
    pub early_stopping: EarlyStopping,
    /// Its weights; those of epochs that are neither the best nor the latest are deleted.
    pub weights: BlobRef,
}

impl From<Manifest> for EpochSummary {
    fn from(manifest: Manifest) -> Self {
        Self {
            epoch: manifest.epoch,
            attempt: manifest.attempt,
            committed_at: manifest.committed_at,
            metrics: manifest.metrics,
            early_stopping: manifest.early_stopping,
            weights: manifest.weights,
        }
    }
}

/// An attempt at a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttemptSummary {
    /// Its number.
    pub attempt: Attempt,
    /// The worker's name for people.
    pub worker: String,
    /// The coordinator that granted it.
    pub term: Term,
    /// When it began.
    pub started_at: Timestamp,
    /// Where it went on from.
    pub resume: Position,
    /// How it ended, if that is known.
    pub result: Option<AttemptResult>,
    /// The worker's program and machine.
    #[serde(skip_serializing_if = "Provenance::is_empty")]
    pub provenance: Provenance,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttemptResult {
    /// When.
    pub at: Timestamp,
    /// How; nothing if it has done its task.
    pub how: Option<AttemptEnd>,
    /// Why.
    pub reason: Option<String>,
}

impl ExperimentRecord {
    /// Where the experiment stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let stopped = self.events.iter().rev().find_map(|event| match event.what {
            Occurrence::CoordinatorStarted { .. } => Some(false),
            Occurrence::CoordinatorStopped { .. } => Some(true),
            _ => None,
        });
        let over = self.closed || stopped == Some(true);
        if self.has_whole_report() {
            Standing::Finished
        } else if self.failures().next().is_some() && (over || !self.is_worked_on()) {
            Standing::Failed
        } else if over {
            Standing::Stopped
        } else {
            Standing::Unfinished
        }
    }

    /// The tasks that have failed for good, and why.
    pub fn failures(&self) -> impl Iterator<Item = (String, &str)> {
        let runs = self.runs.iter().filter_map(|run| {
            let reason = run.failure.as_deref()?;
            Some((run.spec.name.to_string(), reason))
        });
        let evaluation = self.evaluation_failure.as_deref();
        runs.chain(evaluation.map(|reason| (Task::Evaluate.to_string(), reason)))
    }

    fn is_worked_on(&self) -> bool {
        let runs = self.runs.iter();
        runs.clone().any(|run| run.state() == TaskState::Leased)
            || runs.clone().any(|run| run.state() == TaskState::Pending)
            || self.is_to_be_evaluated()
    }

    /// Whether the ensemble of all runs is evaluated.
    fn has_whole_report(&self) -> bool {
        let mut report = self.report.iter();
        report.any(|report| report.partial.is_none())
    }

    /// Whether an ensemble of those runs that finished remains to be evaluated.
    fn is_to_be_evaluated(&self) -> bool {
        let finished = |run: &RunRecord| run.outcome.is_some() && run.spec.ensemble_weight > 0.0;
        self.report.is_none()
            && self.evaluation_failure.is_none()
            && self.spec.experiment.ensemble == Ensemble::Finished
            && self.runs.iter().any(finished)
    }

    /// Takes the newest report of the store. One that lacks runs counts if the present or last coordinator
    /// had it made, by an event, or by the newest attempt, which objects tell of, too: the last events may be
    /// missing. A coordinator that is started again tries what had failed again.
    pub(crate) fn set_report(&mut self, report: Option<EvaluationReport>) {
        let is_of_last = |partial: &Partial| {
            let last = self.evaluation_attempts.last();
            let is_newest = last.is_some_and(|last| {
                // One whose answer was lost may have ended otherwise.
                let has_failed = last.result.as_ref().is_some_and(|end| end.how.is_some());
                last.attempt == partial.attempt && self.term == Some(last.term) && !has_failed
            });
            is_newest || self.evaluated_at().is_some()
        };
        let report = report.filter(|report| report.partial.as_ref().is_none_or(is_of_last));
        let missing = report.as_ref().map_or(&[][..], EvaluationReport::missing);
        for run in &mut self.runs {
            if run.outcome.is_none() && missing.contains(&run.spec.name) {
                run.failure
                    .get_or_insert_with(|| UNKNOWN_FAILURE.to_owned());
            }
        }
        self.report = report;
    }

    /// When the ensemble was evaluated, if the present or last coordinator did that.
    pub(crate) fn evaluated_at(&self) -> Option<Timestamp> {
        let mut events = self.events.iter().rev();
        events.find_map(|event| match event.what {
            Occurrence::Evaluated { .. } => Some(Some(event.at)),
            Occurrence::CoordinatorStarted { .. } => Some(None),
            _ => None,
        })?
    }

    /// When it began: it was created, or, of earlier versions, its first attempt began.
    #[must_use]
    pub fn began_at(&self) -> Option<Timestamp> {
        let attempts = self.runs.iter().flat_map(|run| &run.attempts);
        let first = attempts.map(|attempt| attempt.started_at).min();
        // One that waited in a queue was created long before.
        let started = self.events.iter().find_map(|event| match event.what {
            Occurrence::CoordinatorStarted { .. } => Some(event.at),
            _ => None,
        });
        started.or(self.spec.created_at).or(first)
    }

    /// The last that is known to have happened.
    #[must_use]
    pub fn last_sign(&self) -> Option<Timestamp> {
        let epochs = self.runs.iter().flat_map(|run| &run.epochs);
        let attempts = self.runs.iter().flat_map(|run| &run.attempts);
        let attempts = attempts.chain(&self.evaluation_attempts);
        let ends = attempts
            .clone()
            .filter_map(|attempt| Some(attempt.result.as_ref()?.at));
        epochs
            .filter_map(|epoch| epoch.committed_at)
            .chain(attempts.map(|attempt| attempt.started_at))
            .chain(ends)
            .chain(self.events.iter().map(|event| event.at))
            .max()
    }

    /// From its begin to its end, or to the last that is known to have happened.
    #[must_use]
    pub fn took(&self) -> Option<Duration> {
        let end = match self.has_whole_report() {
            // One that is started again finds nothing to do.
            true => self.events.iter().rev().find_map(|event| match event.what {
                Occurrence::Evaluated { .. } => Some(event.at),
                _ => None,
            }),
            false => self.evaluated_at(),
        };
        Some(end.or(self.last_sign())?.since(self.began_at()?))
    }

    /// The accuracy of the ensemble on a split, a fraction of 1.
    #[must_use]
    pub fn ensemble_accuracy(&self, split: Split) -> Option<f64> {
        let splits = &self.report.as_ref()?.splits;
        let report = splits.iter().find(|report| report.split == split)?;
        Some(report.ensemble.accuracy)
    }

    /// The names of the runs that the evaluated ensemble lacks, separated by commas.
    #[must_use]
    pub fn missing(&self) -> String {
        let missing = self.report.iter().flat_map(EvaluationReport::missing);
        missing.map(RunName::as_str).collect::<Vec<_>>().join(", ")
    }

    /// The accuracy of a run's best epoch on a split, once the ensemble is evaluated.
    #[must_use]
    pub fn member_accuracy(&self, run: &RunName, split: Split) -> Option<f64> {
        let splits = &self.report.as_ref()?.splits;
        let evaluated = splits.iter().find(|report| report.split == split)?;
        let member = evaluated.runs.iter().find(|member| member.run == *run)?;
        Some(member.scores.accuracy)
    }

    /// The run with the best validation accuracy.
    #[must_use]
    pub fn best_run(&self) -> Option<&RunRecord> {
        let accuracy = |run: &&RunRecord| run.best().map(|best| best.best_valid_accuracy);
        let runs = self.runs.iter().filter(|run| run.best().is_some());
        // The first of equal ones.
        runs.rev().max_by(|a, b| {
            accuracy(a)
                .partial_cmp(&accuracy(b))
                .unwrap_or(std::cmp::Ordering::Less)
        })
    }
}

impl RunRecord {
    /// Where the run stands, as far as the store can say.
    #[must_use]
    pub fn state(&self) -> TaskState {
        if self.outcome.is_some() {
            TaskState::Finished
        } else if self.failure.is_some() {
            TaskState::Failed
        } else {
            match self.attempts.last() {
                Some(attempt) if attempt.result.is_none() => TaskState::Leased,
                _ => TaskState::Pending,
            }
        }
    }

    /// The same in words for people.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match self.state() {
            TaskState::Leased => "in progress",
            state => state.as_str(),
        }
    }

    /// Its best epoch so far.
    #[must_use]
    pub fn best(&self) -> Option<EarlyStopping> {
        self.epochs.last().map(|epoch| epoch.early_stopping)
    }

    /// What was committed of its best epoch so far.
    #[must_use]
    pub fn best_epoch(&self) -> Option<&EpochSummary> {
        let best = self.best()?.best_epoch;
        self.epochs.iter().find(|epoch| epoch.epoch == best)
    }

    /// The time that its epochs took, in which it was trained.
    #[must_use]
    pub fn trained_for(&self) -> Duration {
        let seconds = self.epochs.iter().map(|epoch| epoch.metrics.seconds);
        let finite = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
        Duration::try_from_secs_f64(finite.sum()).unwrap_or_default()
    }

    /// Training images per second, the mean over its epochs; nothing before the first.
    #[must_use]
    pub fn images_per_second(&self) -> Option<f64> {
        let speeds = self
            .epochs
            .iter()
            .map(|epoch| epoch.metrics.images_per_second);
        let speeds: Vec<f64> = speeds.filter(|speed| speed.is_finite()).collect();
        (!speeds.is_empty()).then(|| speeds.iter().sum::<f64>() / speeds.len() as f64)
    }
}
