//! The evaluation: each run's best weights on the validation and test images, alone and as an ensemble.

mod members;

use std::borrow::Cow;
use std::io;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use quartet_agent::executor::{
    Callbacks, EvaluateTask, Evaluated, Member, MemberSource, Stop, UnsupportedPrecision,
};
use quartet_shared::dataset::{ImageShape, Images, Split};
use quartet_shared::predictions::Shape;
use quartet_shared::report::{
    self, EvaluationReport, MetricsError, Prediction, SplitReport, normalised,
};

use crate::batches::{Classifier, batches};
use crate::checkpoint::CheckpointError;
use crate::compute::Compute;
use crate::input::{Input, batches_ahead};
use crate::models::{Network, precision};
use crate::progress::ProgressReporter;
use members::Members;

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
    /// The images cannot be read.
    #[error("cannot read the data set's file")]
    Images(#[from] io::Error),
    /// Not even one image at a time fits onto the device.
    #[error("{0}")]
    OutOfMemory(String),
    /// Neither split has images.
    #[error("the data set has neither validation nor test images")]
    NoImages,
}

/// Evaluates the members on the splits that have images, in the precision in which they were trained. Their
/// networks are loaded one after the other, so that an ensemble of any number of members fits on the device;
/// a member whose predictions are there is not computed again. Where there is no memory for one, the device
/// keeps no images any more; then that member and those after it are computed in batches of half the size;
/// the steps begin anew each time. The callbacks see phase `Evaluating`, whose steps are the batches of all
/// members that are computed, are asked after each whether to stop, and get the predictions of every member
/// as soon as they are computed.
///
/// # Errors
/// Weights that do not fit, images that cannot be read, no memory for one image, or predictions that cannot
/// be evaluated.
pub fn evaluate(
    task: &EvaluateTask,
    compute: impl Into<Compute>,
    callbacks: &mut dyn Callbacks,
) -> Result<Evaluated, EvaluateError> {
    let compute = compute.into();
    let EvaluateTask {
        experiment,
        members,
        dataset,
    } = task;
    precision::prepare(experiment, &compute.device)?;
    let shape = Shape::of(dataset);
    let splits: Vec<Split> = shape.splits().iter().map(|(split, _)| *split).collect();
    if splits.is_empty() {
        return Err(EvaluateError::NoImages);
    }
    let unknown = members.iter().filter(|member| member.weights().is_some());
    let mut reporter = ProgressReporter::new(callbacks, 0);
    let count = unknown.count();
    let mut computing = Members::new(experiment, dataset, &splits, compute, count, &mut reporter);

    let mut predictions = Vec::with_capacity(members.len());
    for Member { run, source, .. } in members {
        let weights = match source {
            MemberSource::Weights(weights) => weights,
            MemberSource::Predictions(kept) => {
                predictions.push(Cow::Borrowed(kept));
                continue;
            }
        };
        let Some(computed) = computing.next(run, weights, &mut reporter)? else {
            return Ok(Evaluated::Stopped);
        };
        reporter.predictions(&run.name, &computed);
        predictions.push(Cow::Owned(computed));
    }
    reporter.report(None);

    let mut reports = Vec::with_capacity(splits.len());
    for (index, &split) in splits.iter().enumerate() {
        let predictions: Vec<Prediction<'_>> = members
            .iter()
            .zip(&predictions)
            .map(|(Member { run, .. }, predictions)| Prediction {
                run: run.name.clone(),
                weight: run.ensemble_weight,
                probabilities: predictions.splits.get(index).map_or(&[], |split| split),
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
        partial: None,
        revision: quartet_shared::ids::Revision::FIRST,
    })))
}

/// Softmax outputs of a network for all images of a shape, in order, `[images, classes]`, row-major. `step`
/// is called with the number of images after every batch; `None` if it says to stop. The network must be on
/// `device`, without autodiff.
///
/// # Errors
/// The pixels cannot be read from their file.
pub fn predict(
    network: &Network,
    images: &Images,
    shape: ImageShape,
    batch: usize,
    device: &Device,
    step: &mut dyn FnMut(usize) -> Option<Stop>,
) -> io::Result<Option<Vec<f32>>> {
    let input = Input::of_shape(shape, network.config().image_size as u32, device);
    // Images of no data set: any split's.
    let mut classifier = Classifier::new(&Compute::from(device).with_graphs(false), None);
    classified(
        network,
        images,
        Split::Test,
        batch,
        &input,
        &mut classifier,
        step,
    )
}

/// [`predict`] of the images of a split. What is recorded is of this network, whatever the split.
fn classified(
    network: &Network,
    images: &Images,
    split: Split,
    batch: usize,
    input: &Input,
    classifier: &mut Classifier,
    step: &mut dyn FnMut(usize) -> Option<Stop>,
) -> io::Result<Option<Vec<f32>>> {
    let mut outputs: Vec<Tensor<1>> = Vec::new();
    let made = batches(images, batch).into_iter();
    let made = made.map(|range| input.host_evaluation(images, split, range));
    let all = batches_ahead(input.is_made_ahead(), made, |made| -> io::Result<bool> {
        for host in made {
            let host = host?;
            let n = host.images;
            outputs.push(classifier.run(input, host, |batch| {
                softmax(network.forward(batch.images), 1).reshape([-1])
            }));
            if step(n).is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    if !all {
        return Ok(None);
    }
    Ok(Some(match outputs.is_empty() {
        true => Vec::new(),
        false => {
            let outputs = Tensor::cat(outputs, 0).into_data_as::<f32>();
            outputs.try_to_vec::<f32>().expect("converted to f32")
        }
    }))
}

#[cfg(test)]
mod tests;
