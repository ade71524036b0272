//! The batches of a validation or an evaluation.

use std::ops::Range;

use quartet_shared::dataset::Images;
use quartet_shared::spec::ExperimentSpec;

/// Images in a batch of a validation or an evaluation, which keep nothing for a backward pass: as many as
/// take no more memory than a training step.
pub(crate) fn inference_batch(experiment: &ExperimentSpec) -> usize {
    2 * experiment.batch_size as usize
}

/// All images in their order, in parts of `batch`, the last of which may be smaller.
pub(crate) fn batches(images: &Images, batch: usize) -> Vec<Range<usize>> {
    let n = images.labels.len();
    (0..n)
        .step_by(batch)
        .map(|start| start..n.min(start + batch))
        .collect()
}
