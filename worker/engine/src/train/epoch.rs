//! One epoch: its training steps, its validation, and the states within it.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use quartet_agent::executor::{Checkpoint, Moment, Stop, TrainTask};
use quartet_shared::dataset::{Images, Split};
use quartet_shared::ids::Epoch;
use quartet_shared::position::Position;
use quartet_shared::progress::Phase;
use quartet_shared::spec::ExperimentSpec;

use super::TrainError;
use super::learner::{Learner, cross_entropy, statistics};
use super::meter::{Means, Meter, Sums};
use super::observe::Reporter;
use crate::input::{EpochPlan, Input};

/// A run in progress, but for what it learns.
pub(super) struct Course<'a> {
    task: &'a TrainTask,
    input: Input,
    reporter: Reporter<'a>,
    /// The last position whose state the observer has.
    kept: Position,
}

impl<'a> Course<'a> {
    pub(super) fn new(task: &'a TrainTask, device: &Device, reporter: Reporter<'a>) -> Self {
        Self {
            task,
            input: Input::new(&task.dataset, task.run.image_size, device),
            reporter,
            kept: task
                .resume
                .as_ref()
                .map_or_else(Position::default, |resume| resume.position),
        }
    }

    /// Trains the steps of an epoch that come after `done`, which have given `sums` so far. Returns what the whole epoch
    /// has learned and its sums; `None` if the observer stops it.
    pub(super) fn train(
        &mut self,
        mut learner: Learner,
        epoch: Epoch,
        done: u32,
        sums: Sums,
    ) -> Result<Option<(Learner, Sums)>, TrainError> {
        let task = self.task;
        let images = task.dataset.split(Split::Train);
        let plan = plan(task, epoch);
        let mut meter = Meter::resumed(done, sums);
        let read = |meter: &mut Meter| {
            let means = meter.read();
            meter
                .not_finite()
                .map_or(Ok(means), |step| Err(TrainError::Diverged { epoch, step }))
        };
        let steps = plan.steps().len();
        self.reporter
            .resume_phase(Phase::Training, epoch, steps, done, sums);
        let mut since = Instant::now();
        for (step, indices) in (0..).zip(plan.steps()).skip(done as usize) {
            let batch = self.input.training(
                images,
                indices,
                &task.experiment.augmentation,
                task.run.seed,
                epoch,
            );
            let (next, statistics) = learner.step(batch, epoch, u64::from(step));
            learner = next;
            meter.push(statistics, indices.len());
            if self.reporter.step(indices.len()) {
                let means = read(&mut meter)?;
                self.reporter.report(Some(means));
            }
            let due = |interval| {
                since.elapsed() >= interval && self.reporter.wants_mid_epoch_checkpoint()
            };
            let stop = self.reporter.stop();
            match stop {
                Some(Stop::Drop) => return Ok(None),
                None if !task.checkpoint_interval.is_some_and(due) => continue,
                None | Some(Stop::Drain) => {}
            }
            read(&mut meter)?;
            let sums = meter.sums(self.reporter.seconds());
            let later = self.keep(&learner, Position::within(epoch, step + 1), sums);
            if stop.or(later).is_some() {
                return Ok(None);
            }
            since = Instant::now();
        }
        let means = read(&mut meter)?;
        self.reporter.report(Some(means));
        Ok(Some((learner, meter.sums(self.reporter.seconds()))))
    }

    /// Loss and accuracy on the validation images, each once and in their order. `None` if the observer stops it; when it
    /// drains, it gets the state before the validation, whose training has given `sums`.
    pub(super) fn validate(
        &mut self,
        learner: &Learner,
        epoch: Epoch,
        sums: Sums,
    ) -> Option<Means> {
        let images = self.task.dataset.split(Split::Valid);
        let network = learner.network.valid();
        let mut meter = Meter::default();
        let ranges = batches(images, inference_batch(&self.task.experiment));
        self.reporter.phase(Phase::Validating, epoch, ranges.len());
        for range in ranges {
            let n = range.len();
            let batch = self.input.plain(images, range);
            let logits = network.forward(batch.images);
            let loss = cross_entropy(logits.clone(), batch.labels.clone());
            meter.push(statistics(logits, batch.labels, loss), n);
            if self.reporter.step(n) {
                self.reporter.report(None);
            }
            match self.reporter.stop() {
                None => {}
                Some(Stop::Drop) => return None,
                Some(Stop::Drain) => {
                    let (steps, _) = first_steps(self.task, epoch, u32::MAX);
                    self.keep(learner, Position::within(epoch, steps), sums);
                    return None;
                }
            }
        }
        // A validation loss that is not finite ends nothing: Keras goes on, too.
        let means = meter.read();
        self.reporter.report(None);
        Some(means)
    }

    /// Hands over the end of an epoch.
    pub(super) fn epoch_done(&mut self, learner: &Learner, moment: Moment) -> Option<Stop> {
        self.kept = moment.position();
        let snapshot = Box::new(learner.snapshot(self.kept, None));
        self.reporter.checkpoint(Checkpoint { moment, snapshot })
    }

    /// Hands over a state within an epoch, unless the observer has it.
    fn keep(&mut self, learner: &Learner, position: Position, sums: Sums) -> Option<Stop> {
        if self.kept == position {
            return self.reporter.stop();
        }
        self.kept = position;
        self.reporter.checkpoint(Checkpoint {
            moment: Moment::MidEpoch(position),
            snapshot: Box::new(learner.snapshot(position, Some(sums))),
        })
    }
}

/// The training steps of an epoch.
fn plan(task: &TrainTask, epoch: Epoch) -> EpochPlan {
    let images = task.dataset.split(Split::Train).labels.len();
    let batch = task.experiment.batch_size as usize;
    EpochPlan::new(images, batch, task.run.seed, epoch)
}

/// How many of the first `steps` training steps an epoch has, and the images in them.
pub(super) fn first_steps(task: &TrainTask, epoch: Epoch, steps: u32) -> (u32, u64) {
    let plan = plan(task, epoch);
    let first = plan.steps().take(steps as usize);
    first.fold((0, 0), |(steps, images), indices| {
        (steps + 1, images + indices.len() as u64)
    })
}

/// Images in a batch of a validation or an evaluation, which keep nothing for a backward pass: as many as take no more memory than
/// a training step.
pub(crate) fn inference_batch(experiment: &ExperimentSpec) -> usize {
    2 * experiment.batch_size as usize
}

/// All images in their order, in parts of `batch`, the last of which may be smaller.
pub(crate) fn batches(images: &Images, batch: usize) -> Vec<std::ops::Range<usize>> {
    let n = images.labels.len();
    (0..n)
        .step_by(batch)
        .map(|start| start..n.min(start + batch))
        .collect()
}
