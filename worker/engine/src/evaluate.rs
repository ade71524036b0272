//! The evaluation: each run's best weights on the validation and test images, alone and as an ensemble.

use std::collections::BTreeMap;
use std::fs;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use quartet_agent::executor::{
    Callbacks, EvaluateTask, Evaluated, Member, Stop, UnsupportedPrecision,
};
use quartet_shared::dataset::{Images, Split};
use quartet_shared::ids::Epoch;
use quartet_shared::progress::Phase;
use quartet_shared::report::{
    self, EVALUATED, EvaluationReport, MetricsError, Prediction, SplitReport, normalised,
};

use crate::batches::{batches, inference_batch};
use crate::checkpoint::{CheckpointError, load_run};
use crate::input::Input;
use crate::models::{Network, NetworkConfig, precision};
use crate::progress::ProgressReporter;

/// Bytes of weights that are loaded at once. The four backbones of the default experiment have half of it,
/// so that they share their batches, and a device of 8 GB has most of its memory left for a batch's feature
/// maps.
const GROUP_BYTES: u64 = 1 << 30;

/// Why the ensemble cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The device does not compute in the experiment's precision.
    #[error(transparent)]
    Precision(#[from] UnsupportedPrecision),
    /// A member's weights cannot be used.
    #[error("cannot use the weights of a run")]
    Weights(#[from] CheckpointError),
    /// The predictions make no report.
    #[error("cannot evaluate split {split:?}")]
    Metrics {
        /// The split.
        split: Split,
        /// The cause.
        source: MetricsError,
    },
    /// Neither split has images.
    #[error("the data set has neither validation nor test images")]
    NoImages,
}

/// Evaluates the members on the splits that have images, in the precision in which they were trained. The
/// networks are loaded in groups of at most 1 GiB of weights, one group after the other, so that an ensemble
/// of any number of members fits on the device; a member that is larger is loaded alone. The callbacks see
/// phase `Evaluating`, whose steps are the batches of all members, and are asked after each whether to stop.
///
/// # Errors
/// Weights that do not fit, or predictions that cannot be evaluated.
pub fn evaluate(
    task: &EvaluateTask,
    device: &Device,
    callbacks: &mut dyn Callbacks,
) -> Result<Evaluated, EvaluateError> {
    evaluate_in_groups(task, device, callbacks, GROUP_BYTES)
}

/// [`evaluate`] with groups of at most `group_bytes` of weights.
fn evaluate_in_groups(
    task: &EvaluateTask,
    device: &Device,
    callbacks: &mut dyn Callbacks,
    group_bytes: u64,
) -> Result<Evaluated, EvaluateError> {
    let EvaluateTask {
        experiment,
        members,
        dataset,
    } = task;
    precision::prepare(experiment, device)?;
    let splits: Vec<Split> = EVALUATED
        .into_iter()
        .filter(|&split| !dataset.split(split).labels.is_empty())
        .collect();
    if splits.is_empty() {
        return Err(EvaluateError::NoImages);
    }
    let batch = inference_batch(experiment);
    let steps: usize = splits
        .iter()
        .map(|&split| batches(dataset.split(split), batch).len())
        .sum();
    let mut reporter = ProgressReporter::new(callbacks, 0);
    reporter.phase(Phase::Evaluating, Epoch(0), steps * members.len());

    let size = [dataset.height, dataset.width];
    // probabilities[split][member]
    let mut probabilities = vec![Vec::with_capacity(members.len()); splits.len()];
    for group in groups(members, group_bytes) {
        let networks = load_group(task, group, device)?;
        let networks: Vec<&Network> = networks.iter().collect();
        for (&split, outputs) in splits.iter().zip(&mut probabilities) {
            let mut step = |images| {
                if reporter.step(images) {
                    reporter.report(None);
                }
                reporter.stop()
            };
            let images = dataset.split(split);
            match predict(&networks, images, size, batch, device, &mut step) {
                Some(of_group) => outputs.extend(of_group),
                None => return Ok(Evaluated::Stopped),
            }
        }
    }
    reporter.report(None);

    let mut reports = Vec::with_capacity(splits.len());
    for (&split, outputs) in splits.iter().zip(&probabilities) {
        let predictions: Vec<Prediction<'_>> = members
            .iter()
            .zip(outputs)
            .map(|(Member { run, .. }, probabilities)| Prediction {
                run: run.name.clone(),
                weight: run.ensemble_weight,
                probabilities,
            })
            .collect();
        let report = SplitReport::compute(
            split,
            &dataset.classes,
            &dataset.split(split).labels,
            &predictions,
        );
        reports.push(report.map_err(|source| EvaluateError::Metrics { split, source })?);
    }
    let weights: Vec<f64> = members
        .iter()
        .map(|member| member.run.ensemble_weight)
        .collect();
    let members = members
        .iter()
        .zip(normalised(&weights))
        .map(|(member, weight)| report::Member {
            run: member.run.name.clone(),
            backbone: member.run.backbone,
            best_epoch: member.best_epoch,
            weight,
        });
    Ok(Evaluated::Finished(Box::new(EvaluationReport {
        experiment: experiment.name.clone(),
        classes: dataset.classes.clone(),
        members: members.collect(),
        splits: reports,
    })))
}

/// The members in their order, in groups whose files of weights have at most `limit` bytes together; a
/// larger member is a group of its own. A file has the size of its network, since both are in f32. One that
/// cannot be read counts as empty: loading it says why.
fn groups(members: &[Member], limit: u64) -> Vec<&[Member]> {
    let mut groups = Vec::new();
    let (mut start, mut bytes) = (0, 0_u64);
    for (index, member) in members.iter().enumerate() {
        let size = fs::metadata(&member.weights).map_or(0, |file| file.len());
        if index > start && bytes.saturating_add(size) > limit {
            groups.push(&members[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes = bytes.saturating_add(size);
    }
    if start < members.len() {
        groups.push(&members[start..]);
    }
    groups
}

fn load_group(
    EvaluateTask {
        experiment,
        dataset,
        ..
    }: &EvaluateTask,
    group: &[Member],
    device: &Device,
) -> Result<Vec<Network>, CheckpointError> {
    let networks = group.iter().map(|member| {
        let config = NetworkConfig::of_run(experiment, &member.run, &dataset.classes);
        let network = load_run(&config, &member.weights, device)?;
        // As in the validation that has chosen these weights.
        Ok(network.with_precision(experiment.precision))
    });
    networks.collect()
}

/// Softmax outputs of each network for all images of `[height, width]` pixels in their order, `[images,
/// classes]`, row-major. Networks of one image size share the batches. `step` is called with the number of
/// images after every batch of every network; `None` if it says to stop. The networks must be on `device`,
/// without autodiff.
pub fn predict(
    networks: &[&Network],
    images: &Images,
    size: [u16; 2],
    batch: usize,
    device: &Device,
    step: &mut dyn FnMut(usize) -> Option<Stop>,
) -> Option<Vec<Vec<f32>>> {
    let image_size = |network: &Network| network.config().image_size as u32;
    let input = |size_there| Input::of_size(size.map(usize::from), size_there, device);
    let inputs: BTreeMap<u32, Input> = networks
        .iter()
        .map(|network| (image_size(network), input(image_size(network))))
        .collect();
    let mut outputs = vec![Vec::new(); networks.len()];
    for range in batches(images, batch) {
        let decoded: BTreeMap<u32, Tensor<4>> = inputs
            .iter()
            .map(|(&size, input)| (size, input.evaluation_batch(images, range.clone()).images))
            .collect();
        for (network, outputs) in networks.iter().zip(&mut outputs) {
            let images = decoded[&image_size(network)].clone();
            outputs.push(softmax(network.forward(images), 1));
            if step(range.len()).is_some() {
                return None;
            }
        }
    }
    let read = |outputs: Vec<Tensor<2>>| match outputs.is_empty() {
        true => Vec::new(),
        false => {
            let outputs = Tensor::cat(outputs, 0).into_data_as::<f32>();
            outputs.try_to_vec::<f32>().expect("converted to f32")
        }
    };
    Some(outputs.into_iter().map(read).collect())
}

#[cfg(test)]
mod tests;
