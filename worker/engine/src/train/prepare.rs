//! What a training starts from: random or published weights, or a checkpoint.

use std::path::Path;

use burn::tensor::Device;
use quartet_agent::executor::{Resume, TrainTask};

use super::error::TrainError;
use super::state::TrainState;
use super::train_loop::first_steps;
use crate::adam::AdamConfig;
use crate::checkpoint::{load_run, load_training_state, mismatch};
use crate::metrics::MetricTotals;
use crate::models::{Network, NetworkConfig, precision};
use crate::weights::{WeightsError, WeightsFile};

/// The state before the first step, or as it was at the position to resume from, with the totals of the epoch
/// begun.
pub(super) fn prepare(
    task: &TrainTask,
    device: &Device,
) -> Result<(TrainState, MetricTotals), TrainError> {
    let TrainTask {
        experiment,
        run,
        dataset,
        weights,
        resume,
        ..
    } = task;
    precision::prepare(experiment, device)?;
    let config = NetworkConfig::of_run(experiment, run, &dataset.classes);
    let device = device.clone().autodiff();
    let network = match (resume, weights) {
        (Some(resume), _) => load_run(&config, &resume.weights, &device)?,
        (None, Some(path)) => pretrained(config, path, &device, run.seed)?,
        (None, None) => config.init(&device, run.seed),
    };
    let network = network
        .with_precision(experiment.precision)
        .freeze_through(&run.freeze);
    let rates = AdamConfig::keras(run.learning_rate, run.decay);
    let mut state = TrainState::new(network, rates, run.seed);
    let Some(Resume {
        position,
        training_state: path,
        ..
    }) = resume
    else {
        return Ok((state, MetricTotals::default()));
    };
    let totals = load_training_state(&mut state.adam, run.seed, *position, path)?;
    let totals = totals.unwrap_or_default();
    let (steps, images) = first_steps(task, position.epoch.next(), position.step);
    if (steps, images) != (position.step, totals.images) {
        let found = totals.images;
        let reason =
            format!("{found} images at {position}, where the epoch has {images} in {steps} steps");
        return Err(mismatch(path, &reason).into());
    }
    Ok((state, totals))
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
