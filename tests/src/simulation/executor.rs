//! An executor that computes hashes instead of networks: what it ends with says whether every step was done,
//! once and in order.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use quartet_agent::Link;
use quartet_agent::executor::{
    Checkpoint, CheckpointFiles, EvaluateTask, Evaluated, Executor, ExecutorError, MemberSource,
    Moment, Snapshot, SnapshotError, Stop, TrainTask, Trained, UnsupportedPrecision, WrittenFile,
};
use quartet_shared::blob::Blob;
use quartet_shared::dataset::{Dataset, Split};
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::Epoch;
use quartet_shared::outcome::Outcome;
use quartet_shared::position::Position;
use quartet_shared::predictions::Predictions;
use quartet_shared::progress::{EpochMetrics, Phase, Progress};
use quartet_shared::report::{self, EVALUATED, EvaluationReport, Prediction, SplitReport};
use quartet_shared::spec::{ExperimentSpec, Precision, RunSpec};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::dice::Dice;

/// Steps of an epoch.
pub const STEPS: u32 = 4;

/// The name of a run whose loss is not finite in its second epoch.
pub(super) const BROKEN: &str = "broken";

/// A chain of hashes that stands for weights and moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State([u8; 32]);

impl State {
    /// Before the first step.
    #[must_use]
    pub fn initial(run: &RunSpec) -> Self {
        Self(Sha256::digest(run.seed.to_le_bytes()).into())
    }

    /// After one more step.
    #[must_use]
    pub fn step(self, epoch: Epoch, step: u32) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update(epoch.0.to_le_bytes());
        hasher.update(step.to_le_bytes());
        Self(hasher.finalize().into())
    }

    /// After a whole epoch from its beginning.
    #[must_use]
    pub fn epoch(self, epoch: Epoch) -> Self {
        (0..STEPS).fold(self, |state, step| state.step(epoch, step))
    }

    /// What a file of weights of so many bytes holds, a multiple of 32.
    #[must_use]
    pub fn weights(&self, bytes: usize) -> Vec<u8> {
        self.0.repeat(bytes / self.0.len())
    }

    fn training_state(&self, position: Position) -> Vec<u8> {
        format!("{position}: {}", hex::encode(self.0)).into_bytes()
    }

    fn read(weights: &Path) -> Result<Self, String> {
        let bytes = fs::read(weights).map_err(|e| e.to_string())?;
        let head = bytes.first_chunk::<32>().ok_or("too short")?;
        let state = Self(*head);
        (state.weights(bytes.len()) == bytes)
            .then_some(state)
            .ok_or_else(|| "not what was written".to_owned())
    }

    /// A validation accuracy.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        f64::from(self.0[0]) / 255.0
    }
}

/// What an epoch's end says of its state; the times are those of a fast machine.
#[must_use]
pub fn metrics(state: State) -> EpochMetrics {
    EpochMetrics {
        train_loss: f64::from(state.0[1]),
        train_accuracy: f64::from(state.0[2]) / 255.0,
        valid_loss: f64::from(state.0[3]),
        valid_accuracy: state.accuracy(),
        images_per_second: 1.0,
        seconds: 1.0,
    }
}

/// How a run ends that nothing disturbs: its outcome, and the state after each epoch.
#[must_use]
pub fn undisturbed(experiment: &ExperimentSpec, run: &RunSpec) -> (Outcome, Vec<State>) {
    let (mut states, mut stopping) = (Vec::new(), None);
    let mut state = State::initial(run);
    loop {
        let epoch = Epoch(states.len() as u32 + 1);
        state = state.epoch(epoch);
        states.push(state);
        let now = EarlyStopping::observe(stopping, epoch, state.accuracy());
        stopping = Some(now);
        if let Some(outcome) = outcome(experiment, epoch, now) {
            return (outcome, states);
        }
    }
}

fn outcome(experiment: &ExperimentSpec, epoch: Epoch, stopping: EarlyStopping) -> Option<Outcome> {
    Outcome::after(epoch, stopping, experiment.epochs, experiment.patience)
}

#[derive(Debug)]
struct Fake {
    state: State,
    position: Position,
    bytes: usize,
}

impl Snapshot for Fake {
    fn write(self: Box<Self>, folder: &Path, stem: &str) -> Result<CheckpointFiles, SnapshotError> {
        let write = |name: String, bytes: Vec<u8>| {
            let path = folder.join(name);
            fs::write(&path, &bytes).expect("the simulation's disk works");
            let blob = Blob::of(&bytes);
            WrittenFile { path, blob }
        };
        Ok(CheckpointFiles {
            weights: write(format!("{stem}.weights"), self.state.weights(self.bytes)),
            training_state: write(
                format!("{stem}.state"),
                self.state.training_state(self.position),
            ),
        })
    }
}

/// Trains by hashing, in virtual time.
#[derive(Clone, Debug)]
pub struct HashingExecutor {
    /// Time of a step.
    pub step: Duration,
    /// Size of the weights.
    pub bytes: usize,
    /// Decides which steps fail.
    pub(super) dice: Arc<Dice>,
}

impl Executor for HashingExecutor {
    fn description(&self) -> String {
        "hashes".to_owned()
    }

    fn check_precision(&self, _: Precision) -> Result<(), UnsupportedPrecision> {
        Ok(())
    }

    fn train(&self, task: TrainTask, link: Link) -> BoxFuture<'_, Result<Trained, ExecutorError>> {
        Box::pin(self.train(task, link))
    }

    fn evaluate(
        &self,
        task: EvaluateTask,
        link: Link,
    ) -> BoxFuture<'_, Result<Evaluated, ExecutorError>> {
        Box::pin(self.evaluate(task, link))
    }
}

impl HashingExecutor {
    /// Without failures.
    #[must_use]
    pub fn new(step: Duration, bytes: usize, seed: u64) -> Self {
        Self {
            step,
            bytes,
            dice: Arc::new(Dice::new(seed)),
        }
    }

    async fn train(&self, task: TrainTask, mut link: Link) -> Result<Trained, ExecutorError> {
        let failed = |reason: String| ExecutorError::Failed(reason);
        let mut stopping = task
            .resume
            .as_ref()
            .and_then(|resume| resume.early_stopping);
        let (mut state, at) = match &task.resume {
            Some(resume) => {
                let state = State::read(&resume.weights).map_err(failed)?;
                let written =
                    fs::read(&resume.training_state).map_err(|e| failed(e.to_string()))?;
                if written != state.training_state(resume.position) {
                    return Err(failed(
                        "training state and weights are of two positions".into(),
                    ));
                }
                (state, resume.position)
            }
            None => (State::initial(&task.run), Position::default()),
        };
        if let Some(stopping) = stopping
            && let Some(outcome) = outcome(&task.experiment, at.epoch, stopping)
        {
            return Ok(Trained::Finished(outcome));
        }
        let (mut epoch, mut step) = (at.epoch.next(), at.step);
        let mut saved = Instant::now();
        loop {
            while step < STEPS {
                tokio::time::sleep(self.step).await;
                if self.dice.fails() {
                    return Err(failed("the simulation wants it".into()));
                }
                if task.run.name.as_str() == BROKEN && epoch > Epoch(1) {
                    let reason = "the loss is not finite".to_owned();
                    return Err(ExecutorError::Repeatable(reason));
                }
                state = state.step(epoch, step);
                step += 1;
                link.progress(progress(&task, epoch, step));
                let position = Position::within(epoch, step);
                let due = task
                    .checkpoint_interval
                    .is_some_and(|interval| saved.elapsed() >= interval)
                    && link.wants_mid_epoch_checkpoint();
                let stop = link.stop();
                if stop == Some(Stop::Drain) || (stop.is_none() && due) {
                    saved = Instant::now();
                    let bytes = self.bytes;
                    let snapshot = Box::new(Fake {
                        state,
                        position,
                        bytes,
                    });
                    let moment = Moment::MidEpoch(position);
                    link.checkpoint(Checkpoint { moment, snapshot }).await;
                }
                if stop.is_some() {
                    return Ok(Trained::Stopped);
                }
            }
            let now = EarlyStopping::observe(stopping, epoch, state.accuracy());
            stopping = Some(now);
            let moment = Moment::EpochEnd {
                epoch,
                metrics: metrics(state),
                early_stopping: now,
            };
            let position = Position::end_of(epoch);
            let bytes = self.bytes;
            let snapshot = Box::new(Fake {
                state,
                position,
                bytes,
            });
            let stop = link.checkpoint(Checkpoint { moment, snapshot }).await;
            saved = Instant::now();
            if let Some(outcome) = outcome(&task.experiment, epoch, now) {
                return Ok(Trained::Finished(outcome));
            }
            if stop.is_some() {
                return Ok(Trained::Stopped);
            }
            (epoch, step) = (epoch.next(), 0);
        }
    }

    async fn evaluate(&self, task: EvaluateTask, link: Link) -> Result<Evaluated, ExecutorError> {
        let mut predictions = Vec::new();
        for member in &task.members {
            let weights = match &member.source {
                MemberSource::Predictions(kept) => {
                    predictions.push(kept.clone());
                    continue;
                }
                MemberSource::Weights(weights) => weights,
            };
            tokio::time::sleep(self.step).await;
            if link.stop().is_some() {
                return Ok(Evaluated::Stopped);
            }
            let state = State::read(weights).map_err(ExecutorError::Failed)?;
            let predicted = state.predictions(&task.dataset);
            link.predictions(&member.run.name, &predicted);
            predictions.push(predicted);
        }
        Ok(Evaluated::Finished(Box::new(evaluation(
            &task,
            &predictions,
        ))))
    }
}

impl State {
    /// What a network in this state says of the evaluated images.
    pub(super) fn predictions(&self, dataset: &Dataset) -> Predictions {
        let classes = dataset.classes.len();
        let split = |split: Split| {
            let rows = (0..dataset.len(split)).flat_map(|image| {
                let favourite = usize::from(self.0[image % 32]) % classes;
                (0..classes).map(move |class| if class == favourite { 1.0 } else { 0.0 })
            });
            rows.collect()
        };
        Predictions {
            splits: EVALUATED.map(split).into(),
        }
    }
}

/// A report that depends on every member's state.
fn evaluation(task: &EvaluateTask, said: &[Predictions]) -> EvaluationReport {
    let EvaluateTask {
        experiment,
        members,
        dataset,
    } = task;
    let split = |(index, split): (usize, Split)| {
        let labels = &dataset.split(split).labels;
        let predictions: Vec<_> = members
            .iter()
            .zip(said)
            .map(|(member, said)| Prediction {
                run: member.run.name.clone(),
                weight: member.run.ensemble_weight,
                probabilities: &said.splits[index],
            })
            .collect();
        SplitReport::compute(split, &dataset.classes, labels, &predictions)
            .expect("the probabilities are sound")
    };
    let weights: Vec<f64> = members
        .iter()
        .map(|member| member.run.ensemble_weight)
        .collect();
    EvaluationReport {
        experiment: experiment.name.clone(),
        classes: dataset.classes.clone(),
        members: members
            .iter()
            .zip(report::normalised(&weights))
            .map(|(member, weight)| report::Member {
                run: member.run.name.clone(),
                backbone: member.run.backbone,
                best_epoch: member.best_epoch,
                weight,
            })
            .collect(),
        splits: EVALUATED.into_iter().enumerate().map(split).collect(),
        partial: None,
        revision: quartet_shared::ids::Revision::FIRST,
    }
}

fn progress(task: &TrainTask, epoch: Epoch, step: u32) -> Progress {
    Progress {
        phase: Phase::Training,
        epoch,
        epochs: task.experiment.epochs,
        step,
        steps: STEPS,
        images_per_second: 1.0,
        input_wait: None,
        loss: None,
        accuracy: None,
    }
}
