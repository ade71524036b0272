//! Training one run: the notebook's `fit_generator` with its callbacks.
//!
//! [`train`] blocks and belongs on a thread of its own. What it does depends on its [`TrainTask`] alone: a run that was
//! stopped at any step and resumed from its last checkpoint ends with the same bytes as one that was not, on the same
//! kind of device.

pub mod adam;
pub mod bench;
mod epoch;
pub mod learner;
mod meter;
mod observe;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;
use quartet_agent::executor::{
    Callbacks, Moment, Resume, TrainTask, Trained, UnsupportedPrecision,
};
use quartet_shared::dataset::Split;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::Epoch;
use quartet_shared::outcome::Outcome;
use quartet_shared::position::Position;
use quartet_shared::progress::{EpochMetrics, Phase};
use quartet_shared::spec::{ExperimentSpec, RunSpec};

use crate::checkpoint::{CheckpointError, load_run, load_training_state, mismatch};
use crate::models::{Network, NetworkConfig, check_precision};
use crate::weights::{WeightsError, WeightsFile};
use adam::AdamConfig;
use epoch::{Course, first_steps};
pub(crate) use epoch::{batches, inference_batch};
use learner::Learner;
pub(crate) use meter::Sums;
pub(crate) use observe::Reporter;

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
    /// The device does not compute in the experiment's precision.
    #[error(transparent)]
    Precision(#[from] UnsupportedPrecision),
    /// The checkpoint to resume from cannot be used.
    #[error("cannot resume")]
    Resume(#[from] CheckpointError),
    /// The initial weights cannot be used.
    #[error("cannot start from the weights of the run")]
    Weights(#[from] WeightsError),
}

/// Trains the run on `device`, which is without autodiff, to its end, or until `callbacks` stop it, which are asked
/// after every step.
///
/// # Errors
/// The loss is not finite, there are no images, or the checkpoint to resume from does not fit. Failures inside of burn
/// (such as no memory) are panics.
pub fn train(
    task: &TrainTask,
    device: &Device,
    callbacks: &mut dyn Callbacks,
) -> Result<Trained, TrainError> {
    for split in [Split::Train, Split::Valid] {
        if task.dataset.split(split).labels.is_empty() {
            return Err(TrainError::NoImages(split));
        }
    }
    let resume = task.resume.as_ref();
    let mut early_stopping = resume.and_then(|resume| resume.early_stopping);
    let Position { mut epoch, step } =
        resume.map_or_else(Position::default, |resume| resume.position);
    if let Some(outcome) = outcome(&task.experiment, epoch, early_stopping) {
        return Ok(Trained::Finished(outcome));
    }
    let mut reporter = Reporter::new(callbacks, task.experiment.epochs);
    reporter.phase(Phase::Preparing, epoch.next(), 0);
    let (mut learner, sums) = prepare(task, device)?;
    // What is done of the epoch to come.
    let mut begun = (step, sums);
    let mut course = Course::new(task, device, reporter);
    loop {
        epoch = epoch.next();
        let (step, before) = std::mem::take(&mut begun);
        let started = Instant::now();
        let Some((trained, sums)) = course.train(learner, epoch, step, before)? else {
            return Ok(Trained::Stopped);
        };
        learner = trained;
        let Some(valid_means) = course.validate(&learner, epoch, sums) else {
            return Ok(Trained::Stopped);
        };
        let train_means = sums.means();
        let metrics = EpochMetrics {
            train_loss: train_means.loss,
            train_accuracy: train_means.accuracy,
            valid_loss: valid_means.loss,
            valid_accuracy: valid_means.accuracy,
            images_per_second: sums.images_per_second(),
            seconds: before.seconds + started.elapsed().as_secs_f64(),
        };
        let state = EarlyStopping::observe(early_stopping, epoch, metrics.valid_accuracy);
        early_stopping = Some(state);
        let moment = Moment::EpochEnd {
            epoch,
            metrics,
            early_stopping: state,
        };
        let stop = course.epoch_done(&learner, moment);
        if let Some(outcome) = outcome(&task.experiment, epoch, early_stopping) {
            return Ok(Trained::Finished(outcome));
        }
        if stop.is_some() {
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
    Outcome::after(
        epoch,
        early_stopping?,
        experiment.epochs,
        experiment.patience,
    )
}

/// The network that the specs describe, for these classes; its variant is that of random weights.
pub(crate) fn network_config(
    experiment: &ExperimentSpec,
    run: &RunSpec,
    classes: &[String],
) -> NetworkConfig {
    NetworkConfig {
        backbone: run.backbone,
        variant: run.backbone.facts().variants[0],
        width: run.width,
        image_size: run.image_size as usize,
        dropout: run.dropout,
        batch_norm_momentum: experiment.batch_norm_momentum,
        classes: classes.to_vec(),
    }
}

/// The learner before the first step, or as it was at the position to resume from, with the sums of the epoch begun.
pub(crate) fn prepare(task: &TrainTask, device: &Device) -> Result<(Learner, Sums), TrainError> {
    let TrainTask {
        experiment,
        run,
        dataset,
        weights,
        resume,
        ..
    } = task;
    check_precision(experiment.precision, device)?;
    let config = network_config(experiment, run, &dataset.classes);
    let device = device.clone().autodiff();
    let network = match (resume, weights) {
        (Some(resume), _) => load_run(&config, &resume.weights, &device)?,
        (None, Some(path)) => pretrained(config, path, &device, run.seed)?,
        (None, None) => config.init(&device, run.seed),
    };
    let network = network.with_precision(experiment.precision);
    let rates = AdamConfig::keras(run.learning_rate, run.decay);
    let mut learner = Learner::new(network, rates, run.seed);
    let Some(Resume {
        position,
        training_state: path,
        ..
    }) = resume
    else {
        return Ok((learner, Sums::default()));
    };
    let sums = load_training_state(&mut learner.adam, run.seed, *position, path)?;
    let sums = sums.unwrap_or_default();
    let (steps, images) = first_steps(task, position.epoch.next(), position.step);
    if (steps, images) != (position.step, sums.images) {
        let found = sums.images;
        let reason =
            format!("{found} images at {position}, where the epoch has {images} in {steps} steps");
        return Err(mismatch(path, &reason).into());
    }
    Ok((learner, sums))
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
