//! The members of an ensemble, computed one after the other with what memory the device has.

use std::io;
use std::path::Path;

use quartet_shared::dataset::{Dataset, Split};
use quartet_shared::ids::Epoch;
use quartet_shared::predictions::Predictions;
use quartet_shared::progress::Phase;
use quartet_shared::spec::{ExperimentSpec, RunSpec};

use super::{EvaluateError, classified};
use crate::batches::{Classifier, batches, inference_batch};
use crate::checkpoint::load_run;
use crate::compute::Compute;
use crate::input::Input;
use crate::memory::{description, within_memory};
use crate::models::{Network, NetworkConfig};
use crate::progress::ProgressReporter;

/// What members are computed with. Where there is no memory, pixels are no longer kept on the device; then
/// batches are halved.
pub(super) struct Members<'a> {
    experiment: &'a ExperimentSpec,
    dataset: &'a Dataset,
    splits: &'a [Split],
    compute: Compute,
    /// Of the member before, with the pixels that the device keeps.
    input: Option<Input>,
    batch: usize,
    /// How many are not computed yet.
    left: usize,
}

impl<'a> Members<'a> {
    /// For so many members, on the images of these splits. Begins the phase.
    pub(super) fn new(
        experiment: &'a ExperimentSpec,
        dataset: &'a Dataset,
        splits: &'a [Split],
        compute: Compute,
        count: usize,
        reporter: &mut ProgressReporter<'_>,
    ) -> Self {
        let members = Self {
            experiment,
            dataset,
            splits,
            compute,
            input: None,
            batch: inference_batch(experiment),
            left: count,
        };
        members.begin(reporter);
        members
    }

    /// Reports the batches that there are to compute.
    fn begin(&self, reporter: &mut ProgressReporter<'_>) {
        let of_split = |&split: &Split| batches(self.dataset.split(split), self.batch).len();
        let steps: usize = self.splits.iter().map(of_split).sum();
        reporter.phase(Phase::Evaluating, Epoch(0), steps * self.left);
    }

    /// What the next member says of all splits; `None` if the callbacks say to stop.
    pub(super) fn next(
        &mut self,
        run: &RunSpec,
        weights: &Path,
        reporter: &mut ProgressReporter<'_>,
    ) -> Result<Option<Predictions>, EvaluateError> {
        loop {
            let message = match within_memory(|| self.attempt(run, weights, reporter)) {
                Ok(computed) => {
                    self.left -= 1;
                    return computed;
                }
                // Nothing of the attempt is used.
                Err(message) => message,
            };
            if self.input.take().is_some_and(|input| input.keeps()) {
                self.compute = self.compute.clone().with_device_data_limit(0);
                tracing::warn!("the GPU no longer keeps images: {message}");
            } else if self.batch > 1 {
                self.batch /= 2;
                let batch = self.batch;
                tracing::warn!("evaluated in batches of {batch} images: {message}");
            } else {
                let (name, size) = (&run.name, run.image_size);
                let what = format_args!("{name} with one image of {size}x{size}");
                return Err(EvaluateError::OutOfMemory(description(&message, what)));
            }
            self.begin(reporter);
        }
    }

    fn attempt(
        &mut self,
        run: &RunSpec,
        weights: &Path,
        reporter: &mut ProgressReporter<'_>,
    ) -> Result<Option<Predictions>, EvaluateError> {
        let config = NetworkConfig::of_run(self.experiment, run, &self.dataset.classes);
        // As in the validation that has chosen these weights.
        let network = load_run(&config, weights, &self.compute.device)?;
        let network = network.with_precision(self.experiment.precision);
        let network = self.compute.arranged(network);
        // Pixels that the device keeps are sent once.
        let input = match self.input.take() {
            Some(input) if input.keeps() => input.of_size(run.image_size),
            _ => self
                .compute
                .input(self.dataset, self.splits, run.image_size)?,
        };
        let input = self.input.insert(input).clone();
        Ok(self.predictions(&network, &input, reporter)?)
    }

    fn predictions(
        &self,
        network: &Network,
        input: &Input,
        reporter: &mut ProgressReporter<'_>,
    ) -> io::Result<Option<Predictions>> {
        let mut classifier = Classifier::new(&self.compute, self.compute.family());
        let mut computed = Predictions::default();
        for &split in self.splits {
            let mut step = |images| {
                if reporter.step(images) {
                    reporter.report(None);
                }
                reporter.stop()
            };
            let outputs = classified(
                network,
                self.dataset.split(split),
                split,
                self.batch,
                input,
                &mut classifier,
                &mut step,
            )?;
            match outputs {
                Some(outputs) => computed.splits.push(outputs),
                None => return Ok(None),
            }
        }
        Ok(Some(computed))
    }
}
