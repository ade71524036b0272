//! The batches of a validation or an evaluation.

use std::ops::Range;

use burn::tensor::Tensor;
use quartet_kernels::GraphFamily;
use quartet_shared::dataset::Images;
use quartet_shared::spec::ExperimentSpec;

use crate::compute::Compute;
use crate::input::{Batch, DeviceBatch, HostBatch, Input};
use crate::repeat::{Computation, Inputs, Repeated};

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

/// Computes on batches that are not trained on: on a GPU what is computed is recorded, once for each kind of
/// batch.
#[derive(Debug)]
pub(crate) struct Classifier(Repeated<DeviceBatch>);

/// What changes nothing.
struct Classification<'a, F> {
    input: &'a Input,
    compute: F,
}

impl<F: FnMut(Batch) -> Tensor<1>> Computation<DeviceBatch> for Classification<'_, F> {
    fn compute(&mut self, batch: &DeviceBatch) -> Tensor<1> {
        (self.compute)(self.input.decode(batch))
    }

    fn changed(&self) -> Vec<Tensor<1>> {
        Vec::new()
    }
}

impl Inputs for DeviceBatch {
    type Host = HostBatch;

    fn write(&mut self, host: HostBatch) {
        self.write(host);
    }
}

impl Classifier {
    /// With recordings of this family, if there are to be any.
    pub(crate) fn new(compute: &Compute, family: Option<GraphFamily>) -> Self {
        Self(Repeated::new(compute, family))
    }

    /// Whether there is a recording.
    pub(crate) fn is_recorded(&self) -> bool {
        self.0.is_recorded()
    }

    /// The result, `[..]`, of `compute` on a batch: the same computation at each call.
    pub(crate) fn run(
        &mut self,
        input: &Input,
        host: HostBatch,
        compute: impl FnMut(Batch) -> Tensor<1>,
    ) -> Tensor<1> {
        let upload = |host| input.upload(host);
        let mut classification = Classification { input, compute };
        self.0.run(host.kind(), host, upload, &mut classification)
    }
}
