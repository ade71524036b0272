//! What must have come of an experiment, whatever went wrong.

use std::ops::AddAssign;

use quartet_coordinator::queue::{Ended, Entry, How};
use quartet_history::{ExperimentRecord, Standing};
use quartet_shared::blob::Blob;
use quartet_shared::dataset::Dataset;
use quartet_shared::event::{Event, Occurrence};
use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::outcome::Outcome;
use quartet_shared::predictions::Shape;
use quartet_shared::report::EvaluationReport;
use quartet_shared::spec::{ExperimentSpec, RunSpec};
use quartet_shared::state::TaskState;
use quartet_shared::task::Task;
use quartet_store::evaluation::newest_evaluation;
use quartet_store::layout::{Layout, queue};
use quartet_store::manifest::{AttemptRecord, Manifest, PredictionsManifest};
use serde::de::DeserializeOwned;

use super::executor::{BROKEN, State, metrics, undisturbed};
use super::faulty_store::FaultyStore;
use super::hosts::WEIGHTS;
use super::simulated::{Ending, Simulated};

/// What simulations went through: a fault that never fires tests nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Leases after the first of their tasks.
    pub further_attempts: u64,
    /// Leases that went on from a mid-epoch checkpoint.
    pub resumed_within: u64,
    /// Coordinators after the first.
    pub further_terms: u64,
    /// Manifests that were taken out of use.
    pub discarded: u64,
    /// Calls of the store that failed.
    pub store_failures: u64,
    /// Pauses of coordinators.
    pub pauses: u64,
    /// Creations that lost against a writer who did not write either.
    pub conflicts: u64,
    /// Members of an ensemble that an earlier attempt at the evaluation than the last has computed.
    pub predicted_before: u64,
    /// Forms of experiments after the first.
    pub revisions: u64,
    /// Entries of a queue that were cancelled.
    pub cancelled: u64,
    /// Evaluations of ensembles that lack a run.
    pub partial: u64,
    /// Experiments that another coordinator had begun again when the one that ended them was gone.
    pub begun_again: u64,
    /// Evaluations that lack a run, and that no event tells of.
    pub untold: u64,
    /// Last terms that nobody has closed.
    pub unclosed: u64,
}

impl AddAssign for Coverage {
    fn add_assign(&mut self, other: Self) {
        self.further_attempts += other.further_attempts;
        self.resumed_within += other.resumed_within;
        self.further_terms += other.further_terms;
        self.discarded += other.discarded;
        self.store_failures += other.store_failures;
        self.conflicts += other.conflicts;
        self.pauses += other.pauses;
        self.predicted_before += other.predicted_before;
        self.revisions += other.revisions;
        self.cancelled += other.cancelled;
        self.partial += other.partial;
        self.begun_again += other.begun_again;
        self.untold += other.untold;
        self.unclosed += other.unclosed;
    }
}

/// Compares what the store has with what an undisturbed experiment ends with.
pub(super) async fn check(experiment: &Simulated) -> Result<Coverage, String> {
    let Simulated { spec, objects, .. } = experiment;
    let is_broken = |run: &RunSpec| run.name.as_str() == BROKEN;
    match (experiment.ending(), spec.runs.iter().any(is_broken)) {
        (Some(Ending::Finished), false) => {}
        (Some(Ending::Partial(reasons)), true) => {
            let mut reasons = reasons.iter();
            let only = reasons.all(|reason| reason.starts_with(BROKEN));
            equal(&only, &true, || "what failed".to_owned())?;
        }
        (Some(Ending::Failed(reasons)), _) => {
            return Err(format!("the experiment failed: {reasons:?}"));
        }
        (ending, _) => return Err(format!("the experiment ended as {ending:?}")),
    }
    let layout = Layout::new(spec.name.clone());
    let mut coverage = Coverage {
        further_terms: (objects.keys(&layout.claims().all()).await.len() as u64).saturating_sub(1),
        store_failures: objects.failures(),
        conflicts: objects.conflicts(),
        revisions: objects.keys(&layout.revisions()).await.len() as u64,
        cancelled: cancelled(objects, spec).await?,
        ..Coverage::default()
    };
    let key = newest_evaluation(&objects.healthy(), &layout).await;
    let key = key
        .map_err(|e| e.to_string())?
        .ok_or("there is no evaluation")?;
    let report: EvaluationReport = read(objects, &key).await?;
    report.validate().map_err(|e| e.to_string())?;
    let history = history(experiment).await?;
    let is_begun_again = is_begun_again(&history, &report)?;
    coverage.begun_again = u64::from(is_begun_again);
    coverage.unclosed = u64::from(!history.closed);
    coverage.untold = u64::from(report.partial.is_some() && !tells_of_evaluation(&history));
    let expected = match experiment.ending() {
        Some(Ending::Partial(_)) => Standing::Failed,
        _ => Standing::Finished,
    };
    // Whether it is told that it was begun again depends on the moment.
    if !is_begun_again {
        equal(&history.standing(), &expected, || "standing".to_owned())?;
    }
    coverage.partial = objects.keys(&layout.partial_results()).await.len() as u64 / 4;
    for run in &spec.runs {
        if is_broken(run) {
            equal(
                &report.members.iter().any(|m| m.run == run.name),
                &false,
                || format!("{} in the ensemble", run.name),
            )?;
            let missing = report.missing().to_vec();
            equal(&missing, &vec![run.name.clone()], || {
                "what is missing".to_owned()
            })?;
            continue;
        }
        let checker = Checker {
            layout: &layout,
            objects,
            run,
        };
        let (outcome, states) = undisturbed(spec, run);
        check_history(&history, run, &states)?;
        checker.outcome(outcome).await?;
        checker.epochs(&states, &outcome).await?;
        checker.attempts(&mut coverage).await?;
        let member = report.members.iter().find(|member| member.run == run.name);
        if member.map(|member| member.best_epoch) != Some(outcome.best_epoch) {
            return Err(format!("the evaluation has another epoch of {}", run.name));
        }
        let discarded = objects.keys(&layout.discarded(&run.name)).await;
        coverage.discarded += discarded.len() as u64;
        let best = states[outcome.best_epoch.0 as usize - 1];
        checker.predictions(best, &history, &mut coverage).await?;
    }
    Ok(coverage)
}

/// How many entries of the experiment the queue had that were cancelled, if it was in one; the last one that
/// has ended has finished.
async fn cancelled(objects: &FaultyStore, spec: &ExperimentSpec) -> Result<u64, String> {
    let (mut cancelled, mut last) = (0, None);
    let all_ended = objects.keys(&queue::all_ended()).await;
    for key in objects.keys(&queue::entries()).await {
        let entry: Entry = read(objects, &key).await?;
        if entry.experiment != spec.name {
            continue;
        }
        let number = queue::number(&key).ok_or_else(|| format!("{key} has no number"))?;
        let key = queue::ended(number);
        // One that came again although it had finished may be there yet.
        if !all_ended.contains(&key) {
            continue;
        }
        let ended: Ended = read(objects, &key).await?;
        cancelled += u64::from(ended.how == How::Cancelled);
        last = Some(ended.how);
    }
    equal(&last.unwrap_or(How::Finished), &How::Finished, || {
        format!("the last entry of {}", spec.name)
    })?;
    Ok(cancelled)
}

/// What people are shown of it.
async fn history(experiment: &Simulated) -> Result<ExperimentRecord, String> {
    let read = quartet_history::read(&experiment.objects.healthy(), &experiment.spec.name).await;
    let record = read.map_err(|e| e.to_string())?;
    equal(&record.unreadable, &Vec::new(), || {
        "unreadable objects".to_owned()
    })?;
    let started = |event: &&Event| matches!(event.what, Occurrence::CoordinatorStarted { .. });
    match record.events.iter().find(started) {
        Some(_) => Ok(record),
        None => Err("the history has no coordinator".to_owned()),
    }
}

/// Whether a coordinator has claimed it after the one that had this report made, which lacks a run. It
/// begins again what had failed.
fn is_begun_again(record: &ExperimentRecord, report: &EvaluationReport) -> Result<bool, String> {
    let Some(partial) = &report.partial else {
        return Ok(false);
    };
    let mut attempts = record.evaluation_attempts.iter();
    let evaluated = attempts.find(|attempt| attempt.attempt == partial.attempt);
    let evaluated = evaluated.ok_or("the evaluation has no attempt")?;
    Ok(record.term > Some(evaluated.term))
}

fn tells_of_evaluation(record: &ExperimentRecord) -> bool {
    let is_evaluated = |event: &Event| matches!(event.what, Occurrence::Evaluated { .. });
    record.events.iter().any(is_evaluated)
}

/// The history of a run is that of the undisturbed one.
fn check_history(record: &ExperimentRecord, run: &RunSpec, states: &[State]) -> Result<(), String> {
    let known = record.runs.iter().find(|known| known.spec == *run);
    let known = known.ok_or_else(|| format!("the history has no {}", run.name))?;
    let shown: Vec<_> = known.epochs.iter().map(|epoch| epoch.metrics).collect();
    let expected: Vec<_> = states.iter().map(|state| metrics(*state)).collect();
    equal(&shown, &expected, || format!("the history of {}", run.name))?;
    equal(&known.state(), &TaskState::Finished, || {
        format!("the state of {}", run.name)
    })
}

struct Checker<'a> {
    layout: &'a Layout,
    objects: &'a FaultyStore,
    run: &'a RunSpec,
}

impl Checker<'_> {
    fn name(&self) -> &RunName {
        &self.run.name
    }

    async fn manifest(&self, epoch: Epoch) -> Result<Manifest, String> {
        read(self.objects, &self.layout.manifest(self.name(), epoch)).await
    }

    async fn outcome(&self, expected: Outcome) -> Result<(), String> {
        let outcome: Outcome = read(self.objects, &self.layout.outcome(self.name())).await?;
        equal(&outcome, &expected, || {
            format!("outcome of {}", self.name())
        })
    }

    /// Every epoch is there once, with the numbers of the undisturbed run; the best and the latest with
    /// their bytes.
    async fn epochs(&self, states: &[State], outcome: &Outcome) -> Result<(), String> {
        let keys = self.objects.keys(&self.layout.manifests(self.name())).await;
        equal(&keys.len(), &states.len(), || {
            format!("epochs of {}", self.name())
        })?;
        let mut attempt = Default::default();
        for (index, state) in states.iter().enumerate() {
            let epoch = Epoch(index as u32 + 1);
            let manifest = self.manifest(epoch).await?;
            equal(&manifest.metrics, &metrics(*state), || {
                format!("metrics of {} in epoch {epoch}", self.name())
            })?;
            if manifest.attempt < attempt {
                return Err(format!(
                    "epoch {epoch} of {} is of an older attempt",
                    self.name()
                ));
            }
            attempt = manifest.attempt;
            let record: AttemptRecord = read(
                self.objects,
                &self
                    .layout
                    .attempt(&Task::Train(self.name().clone()), attempt),
            )
            .await?;
            equal(&record.worker, &manifest.worker, || {
                format!("worker of {} in epoch {epoch}", self.name())
            })?;
            let is_kept = epoch == outcome.best_epoch || epoch.0 == outcome.epochs;
            if is_kept && !self.objects.is_damaged(&manifest.weights.key) {
                let bytes = self.objects.bytes(&manifest.weights.key).await;
                let bytes = bytes.ok_or_else(|| format!("{} is gone", manifest.weights.key))?;
                equal(&Blob::of(&bytes), &manifest.weights.blob, || {
                    manifest.weights.key.clone()
                })?;
                if *bytes != state.weights(WEIGHTS) {
                    return Err(format!("{} has other bytes", manifest.weights.key));
                }
            }
        }
        Ok(())
    }

    /// What is kept of the best network's predictions is what it says, whichever attempt computed it.
    async fn predictions(
        &self,
        best: State,
        history: &ExperimentRecord,
        coverage: &mut Coverage,
    ) -> Result<(), String> {
        let attempts = self
            .objects
            .keys(&self.layout.attempts(&Task::Evaluate))
            .await;
        let dataset = self.objects.bytes(&history.spec.dataset.key).await;
        let dataset = Dataset::decode(&dataset.ok_or("there is no data set")?);
        let dataset = dataset.map_err(|e| e.to_string())?;
        let expected = best.predictions(&dataset).encode(&Shape::of(&dataset));
        let keys = self
            .objects
            .keys(&self.layout.all_predictions(self.name()))
            .await;
        let mut newest = None;
        for key in keys.iter().filter(|key| key.ends_with(".json")) {
            let manifest: PredictionsManifest = read(self.objects, key).await?;
            let object = &manifest.predictions;
            if !self.objects.is_damaged(&object.key) {
                let bytes = self.objects.bytes(&object.key).await;
                let is_whole = bytes.is_some_and(|bytes| Blob::of(&bytes) == object.blob);
                equal(&is_whole, &true, || object.key.clone())?;
            }
            // An experiment that grows has those of earlier best epochs, too.
            let is_of_best = manifest.weights.blob == Blob::of(&best.weights(WEIGHTS));
            if history.spec.revised.is_some() && !is_of_best {
                continue;
            }
            // Those of a checkpoint that was rolled back are as good: the run ends with the same bytes.
            equal(&Blob::of(&expected), &object.blob, || object.key.clone())?;
            newest = newest.max(Some(manifest.attempt));
        }
        let newest = newest.ok_or_else(|| format!("no predictions of {} are kept", self.name()))?;
        coverage.predicted_before += u64::from((newest.0 as usize) < attempts.len());
        Ok(())
    }

    /// Attempts were given once each, and grew.
    async fn attempts(&self, coverage: &mut Coverage) -> Result<(), String> {
        let task = Task::Train(self.name().clone());
        for key in self.objects.keys(&self.layout.attempts(&task)).await {
            let record: AttemptRecord = read(self.objects, &key).await?;
            equal(&self.layout.attempt(&task, record.attempt), &key, || {
                "key of an attempt".to_owned()
            })?;
            coverage.further_attempts += u64::from(record.attempt.0 > 1);
            coverage.resumed_within += u64::from(record.resume.step > 0);
        }
        Ok(())
    }
}

/// The value of an object that is there.
pub(super) async fn read<T: DeserializeOwned>(
    objects: &FaultyStore,
    key: &str,
) -> Result<T, String> {
    let bytes = objects.bytes(key).await;
    let bytes = bytes.ok_or_else(|| format!("there is no {key}"))?;
    serde_json::from_slice(&bytes).map_err(|e| format!("{key}: {e}"))
}

fn equal<T: PartialEq + std::fmt::Debug>(
    found: &T,
    expected: &T,
    what: impl Fn() -> String,
) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{}: {found:?} instead of {expected:?}", what()))
}
