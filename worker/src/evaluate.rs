//! The evaluation: each run's best weights on the validation and test images, alone and as an ensemble.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use burn::tensor::activation::softmax;
use quartet_shared::dataset::{Dataset, Images, Split};
use quartet_shared::ids::Epoch;
use quartet_shared::progress::Phase;
use quartet_shared::report::{
    self, EvaluationReport, MetricsError, Prediction, SplitReport, normalised,
};
use quartet_shared::spec::{ExperimentSpec, RunSpec};

use crate::checkpoint::{CheckpointError, load_run};
use crate::device::{UnsupportedPrecision, check_precision};
use crate::input::Input;
use crate::models::Network;
use crate::train::{Control, Observer, Reporter, batches, network_config};

/// The splits that are evaluated.
const SPLITS: [Split; 2] = [Split::Valid, Split::Test];

/// What to evaluate.
#[derive(Clone, Debug)]
pub struct EvaluateTask {
    /// The experiment.
    pub experiment: ExperimentSpec,
    /// The ensemble.
    pub members: Vec<Member>,
    /// The data.
    pub dataset: Arc<Dataset>,
}

/// A run whose weights join the ensemble.
#[derive(Clone, Debug)]
pub struct Member {
    /// The run.
    pub run: RunSpec,
    /// The epoch of the weights.
    pub best_epoch: Epoch,
    /// The file with the weights.
    pub weights: PathBuf,
}

/// How [`evaluate`] ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluated {
    /// The report.
    Finished(Box<EvaluationReport>),
    /// The observer asked to stop.
    Stopped,
}

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

/// Evaluates the members on the splits that have images, with one network in memory at a time, in the precision in which they
/// were trained. The observer sees
/// phase `Evaluating`, whose steps are the batches of all members, and is asked after each whether to go on.
///
/// # Errors
/// Weights that do not fit, or predictions that cannot be evaluated.
pub fn evaluate(
    task: &EvaluateTask,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Evaluated, EvaluateError> {
    let EvaluateTask {
        experiment,
        members,
        dataset,
    } = task;
    check_precision(experiment.precision, device)?;
    let splits: Vec<Split> = SPLITS
        .into_iter()
        .filter(|&split| !dataset.split(split).labels.is_empty())
        .collect();
    if splits.is_empty() {
        return Err(EvaluateError::NoImages);
    }
    let batch = experiment.batch_size as usize;
    let steps: usize = splits
        .iter()
        .map(|&split| batches(dataset.split(split), batch).len())
        .sum();
    let mut reporter = Reporter::new(observer, 0);
    reporter.phase(Phase::Evaluating, Epoch(0), steps * members.len());

    // probabilities[split][member]
    let mut probabilities = vec![Vec::new(); splits.len()];
    for member in members {
        let config = network_config(experiment, &member.run, &dataset.classes);
        let network = load_run(&config, &member.weights, device)?;
        // As in the validation that has chosen these weights.
        let network = network.with_precision(experiment.precision);
        let input = Input::new(dataset, member.run.image_size, device);
        for (&split, outputs) in splits.iter().zip(&mut probabilities) {
            let mut step = |images| {
                if reporter.step(images) {
                    reporter.report(None);
                }
                reporter.control()
            };
            match predict(&network, &input, dataset.split(split), batch, &mut step) {
                Some(output) => outputs.push(output),
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

/// Softmax outputs of all images in their order, `[images, classes]`, row-major. `step` is called with the number of
/// images after every batch; `None` unless it says to go on. The network must be on the device of `input`, without autodiff.
pub fn predict(
    network: &Network,
    input: &Input,
    images: &Images,
    batch: usize,
    step: &mut dyn FnMut(usize) -> Control,
) -> Option<Vec<f32>> {
    let mut probabilities = Vec::new();
    for range in batches(images, batch) {
        let n = range.len();
        let outputs =
            softmax(network.forward(input.plain(images, range).images), 1).into_data_as::<f32>();
        probabilities.extend_from_slice(outputs.as_slice::<f32>().expect("converted to f32"));
        if step(n) != Control::Continue {
            return None;
        }
    }
    Some(probabilities)
}

#[cfg(test)]
mod tests;
