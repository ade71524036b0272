//! Training one run: the notebook's `fit_generator` with its callbacks.
//!
//! [`train`] blocks and belongs on a thread of its own. What it does depends on its [`TrainTask`] alone: a run that was
//! stopped and resumed from the last epoch's checkpoint ends with the same bytes as one that was not, on the same
//! kind of device.

pub mod adam;
pub mod bench;
pub mod learner;
mod meter;
mod observe;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use quartet_shared::checkpoint::{Outcome, StopReason};
use quartet_shared::dataset::{Dataset, Images, Split};
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::Epoch;
use quartet_shared::progress::{EpochMetrics, Phase};
use quartet_shared::spec::{ExperimentSpec, RunSpec};

use crate::checkpoint::{CheckpointError, Snapshot, load_run, load_training_state};
use crate::input::{EpochPlan, Input};
use crate::models::{Network, NetworkConfig, Variant};
use crate::weights::{WeightsError, WeightsFile};
use adam::AdamConfig;
use learner::{Learner, cross_entropy, statistics};
use meter::{Means, Meter};
pub(crate) use observe::Reporter;
pub use observe::{Control, Observer};

/// What to train.
#[derive(Clone, Debug)]
pub struct TrainTask {
    /// The experiment.
    pub experiment: ExperimentSpec,
    /// The run, one of the experiment's.
    pub run: RunSpec,
    /// The data.
    pub dataset: Arc<Dataset>,
    /// Where to compute: a device without autodiff.
    pub device: Device,
    /// The file of its initial weights; without one they are random.
    pub weights: Option<PathBuf>,
    /// The last committed epoch, if there is one.
    pub resume: Option<Resume>,
}

/// Where a run goes on.
#[derive(Clone, Debug)]
pub struct Resume {
    /// The epoch that is done.
    pub epoch: Epoch,
    /// Early stopping after it.
    pub early_stopping: EarlyStopping,
    /// Its weights.
    pub weights: PathBuf,
    /// Its training state.
    pub training_state: PathBuf,
}

/// A finished epoch.
#[derive(Debug)]
pub struct EpochCheckpoint {
    /// The epoch.
    pub epoch: Epoch,
    /// Its metrics.
    pub metrics: EpochMetrics,
    /// Early stopping after it.
    pub early_stopping: EarlyStopping,
    /// The state to be written.
    pub snapshot: Snapshot,
}

/// How [`train`] ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trained {
    /// All epochs are trained, or early stopping ended the run.
    Finished(Outcome),
    /// The observer asked to stop; what was not yet an epoch is lost.
    Stopped,
}

/// Why a run cannot be trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The loss became NaN or infinite.
    #[error("the training loss is not finite in epoch {epoch}, step {step}")]
    Diverged {
        /// The epoch.
        epoch: Epoch,
        /// The step, from 1.
        step: u32,
    },
    /// There is nothing to train or to validate on.
    #[error("the data set has no images in split {0:?}")]
    NoImages(Split),
    /// The checkpoint to resume from cannot be used.
    #[error("cannot resume")]
    Resume(#[from] CheckpointError),
    /// The initial weights cannot be used.
    #[error("cannot start from the weights of the run")]
    Weights(#[from] WeightsError),
}

/// Trains the run to its end, or until `observer` stops it, which is asked after every step.
///
/// # Errors
/// The loss is not finite, there are no images, or the checkpoint to resume from does not fit. Failures inside of burn
/// (such as no memory) are panics.
pub fn train(task: &TrainTask, observer: &mut dyn Observer) -> Result<Trained, TrainError> {
    for split in [Split::Train, Split::Valid] {
        if task.dataset.split(split).labels.is_empty() {
            return Err(TrainError::NoImages(split));
        }
    }
    let mut early_stopping = task.resume.as_ref().map(|resume| resume.early_stopping);
    let mut epoch = task.resume.as_ref().map_or(Epoch(0), |resume| resume.epoch);
    if let Some(outcome) = outcome(&task.experiment, epoch, early_stopping) {
        return Ok(Trained::Finished(outcome));
    }
    let mut reporter = Reporter::new(observer, task.experiment.epochs);
    reporter.phase(Phase::Preparing, epoch.next(), 0);
    let mut learner = prepare(task)?;
    let input = Input::new(&task.dataset, task.run.image_size, &task.device);
    loop {
        epoch = epoch.next();
        let started = Instant::now();
        let (trained, train_means) = match train_epoch(task, learner, &input, epoch, &mut reporter)?
        {
            Some(done) => done,
            None => return Ok(Trained::Stopped),
        };
        learner = trained;
        let images_per_second = reporter.images_per_second();
        let Some(valid_means) = validate(task, &learner, &input, epoch, &mut reporter) else {
            return Ok(Trained::Stopped);
        };
        let metrics = EpochMetrics {
            train_loss: train_means.loss,
            train_accuracy: train_means.accuracy,
            valid_loss: valid_means.loss,
            valid_accuracy: valid_means.accuracy,
            images_per_second,
            seconds: started.elapsed().as_secs_f64(),
        };
        let state = EarlyStopping::observe(early_stopping, epoch, metrics.valid_accuracy);
        early_stopping = Some(state);
        let snapshot = learner.snapshot(epoch);
        let kept = reporter.epoch_done(EpochCheckpoint {
            epoch,
            metrics,
            early_stopping: state,
            snapshot,
        });
        if let Some(outcome) = outcome(&task.experiment, epoch, early_stopping) {
            return Ok(Trained::Finished(outcome));
        }
        if kept == Control::Stop {
            return Ok(Trained::Stopped);
        }
    }
}

/// How the run ended, if `epoch` is its last.
fn outcome(
    experiment: &ExperimentSpec,
    epoch: Epoch,
    early_stopping: Option<EarlyStopping>,
) -> Option<Outcome> {
    let state = early_stopping?;
    let stop_reason = if state.should_stop(experiment.patience) {
        StopReason::EarlyStopping
    } else if epoch.0 >= experiment.epochs {
        StopReason::Epochs
    } else {
        return None;
    };
    let EarlyStopping {
        best_epoch,
        best_valid_accuracy,
        ..
    } = state;
    Some(Outcome {
        epochs: epoch.0,
        best_epoch,
        best_valid_accuracy,
        stop_reason,
    })
}

/// The network that the specs describe, for these classes; its variant is that of random weights.
pub(crate) fn network_config(
    experiment: &ExperimentSpec,
    run: &RunSpec,
    classes: &[String],
) -> NetworkConfig {
    NetworkConfig {
        backbone: run.backbone,
        variant: Variant::of_random(run.backbone),
        width: run.width,
        image_size: run.image_size as usize,
        dropout: run.dropout,
        batch_norm_momentum: experiment.batch_norm_momentum,
        classes: classes.to_vec(),
    }
}

/// The learner before the first step, or as it was at the end of the epoch to resume from.
pub(crate) fn prepare(task: &TrainTask) -> Result<Learner, TrainError> {
    let TrainTask {
        experiment,
        run,
        dataset,
        device,
        weights,
        resume,
    } = task;
    let config = network_config(experiment, run, &dataset.classes);
    let device = device.clone().autodiff();
    let network = match (resume, weights) {
        (Some(resume), _) => load_run(&config, &resume.weights, &device)?,
        (None, Some(path)) => pretrained(config, path, &device, run.seed)?,
        (None, None) => config.init(&device, run.seed),
    };
    let rates = AdamConfig::keras(run.learning_rate, run.decay);
    let mut learner = Learner::new(network, rates, run.seed);
    if let Some(resume) = resume {
        load_training_state(
            &mut learner.adam,
            run.seed,
            resume.epoch,
            &resume.training_state,
        )?;
    }
    Ok(learner)
}

/// The network of the implementation that the file's weights are of; what the file does not have is random.
fn pretrained(
    config: NetworkConfig,
    path: &Path,
    device: &Device,
    seed: u64,
) -> Result<Network, WeightsError> {
    let weights = WeightsFile::open(path)?;
    let variant = weights.variant(config.backbone)?;
    weights.load(NetworkConfig { variant, ..config }.init(device, seed))
}

/// `None` if the observer stops it.
fn train_epoch(
    task: &TrainTask,
    mut learner: Learner,
    input: &Input,
    epoch: Epoch,
    reporter: &mut Reporter<'_>,
) -> Result<Option<(Learner, Means)>, TrainError> {
    let images = task.dataset.split(Split::Train);
    let batch_size = task.experiment.batch_size as usize;
    let plan = EpochPlan::new(images.labels.len(), batch_size, task.run.seed, epoch);
    let mut meter = Meter::default();
    let read = |meter: &mut Meter| {
        let means = meter.read();
        meter
            .not_finite()
            .map_or(Ok(means), |step| Err(TrainError::Diverged { epoch, step }))
    };
    reporter.phase(Phase::Training, epoch, plan.steps().len());
    for (step, indices) in plan.steps().enumerate() {
        let batch = input.training(
            images,
            indices,
            &task.experiment.augmentation,
            task.run.seed,
            epoch,
        );
        let (next, statistics) = learner.step(batch, epoch, step as u64);
        learner = next;
        meter.push(statistics, indices.len());
        if reporter.step(indices.len()) {
            let means = read(&mut meter)?;
            reporter.report(Some(means));
        }
        if reporter.control() == Control::Stop {
            return Ok(None);
        }
    }
    let means = read(&mut meter)?;
    reporter.report(Some(means));
    Ok(Some((learner, means)))
}

/// Loss and accuracy on the validation images, each once and in their order. `None` if the observer stops it.
fn validate(
    task: &TrainTask,
    learner: &Learner,
    input: &Input,
    epoch: Epoch,
    reporter: &mut Reporter<'_>,
) -> Option<Means> {
    let images = task.dataset.split(Split::Valid);
    let network = learner.network.valid();
    let mut meter = Meter::default();
    let ranges = batches(images, task.experiment.batch_size as usize);
    reporter.phase(Phase::Validating, epoch, ranges.len());
    for range in ranges {
        let n = range.len();
        let batch = input.plain(images, range);
        let logits = network.forward(batch.images);
        let loss = cross_entropy(logits.clone(), batch.labels.clone());
        meter.push(statistics(logits, batch.labels, loss), n);
        if reporter.step(n) {
            reporter.report(None);
        }
        if reporter.control() == Control::Stop {
            return None;
        }
    }
    // A validation loss that is not finite ends nothing: Keras goes on, too.
    let means = meter.read();
    reporter.report(None);
    Some(means)
}

/// All images in their order, in parts of `batch`, the last of which may be smaller.
pub(crate) fn batches(images: &Images, batch: usize) -> Vec<std::ops::Range<usize>> {
    let n = images.labels.len();
    (0..n)
        .step_by(batch)
        .map(|start| start..n.min(start + batch))
        .collect()
}
