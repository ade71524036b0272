//! The loop over an epoch: its training steps, its validation, and its mid-epoch checkpoints.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use quartet_agent::executor::{Checkpoint, Moment, Stop, TrainTask};
use quartet_shared::dataset::Split;
use quartet_shared::ids::Epoch;
use quartet_shared::position::Position;
use quartet_shared::progress::Phase;

use super::error::TrainError;
use super::state::TrainState;
use crate::batches::{batches, inference_batch};
use crate::input::{Input, Sampler};
use crate::metrics::{Means, MetricAccumulator, MetricTotals, cross_entropy, statistics};
use crate::progress::ProgressReporter;

/// A run in progress, but for its [`TrainState`].
pub(super) struct TrainLoop<'a> {
    task: &'a TrainTask,
    input: Input,
    reporter: ProgressReporter<'a>,
    /// The last position whose state the callbacks have.
    kept: Position,
}

impl<'a> TrainLoop<'a> {
    pub(super) fn new(
        task: &'a TrainTask,
        device: &Device,
        reporter: ProgressReporter<'a>,
    ) -> Self {
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

    /// Trains the steps of an epoch that come after `done`, which have given `totals` so far. Returns what
    /// the whole epoch has learned and its totals; `None` if the callbacks stop it.
    pub(super) fn train(
        &mut self,
        mut state: TrainState,
        epoch: Epoch,
        done: u32,
        totals: MetricTotals,
    ) -> Result<Option<(TrainState, MetricTotals)>, TrainError> {
        let task = self.task;
        let images = task.dataset.split(Split::Train);
        let sampler = sampler(task, epoch);
        let mut accumulator = MetricAccumulator::resumed(done, totals);
        let read = |accumulator: &mut MetricAccumulator| {
            let means = accumulator.read();
            accumulator
                .not_finite()
                .map_or(Ok(means), |step| Err(TrainError::Diverged { epoch, step }))
        };
        let steps = sampler.steps().len();
        self.reporter
            .resume_phase(Phase::Training, epoch, steps, done, totals);
        let mut since = Instant::now();
        for (step, indices) in (0..).zip(sampler.steps()).skip(done as usize) {
            let batch = self.input.training(
                images,
                indices,
                &task.experiment.augmentation,
                task.run.seed,
                epoch,
            )?;
            let (next, statistics) = state.step(batch, epoch, u64::from(step));
            state = next;
            accumulator.push(statistics, indices.len());
            if self.reporter.step(indices.len()) {
                let means = read(&mut accumulator)?;
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
            read(&mut accumulator)?;
            let totals = accumulator.totals(self.reporter.seconds());
            let later = self.keep(&state, Position::within(epoch, step + 1), totals);
            if stop.or(later).is_some() {
                return Ok(None);
            }
            since = Instant::now();
        }
        let means = read(&mut accumulator)?;
        self.reporter.report(Some(means));
        Ok(Some((state, accumulator.totals(self.reporter.seconds()))))
    }

    /// Loss and accuracy on the validation images, each once and in their order. `None` if the callbacks stop
    /// it; when they drain, they get the state before the validation, whose training has given `totals`.
    pub(super) fn validate(
        &mut self,
        state: &TrainState,
        epoch: Epoch,
        totals: MetricTotals,
    ) -> Result<Option<Means>, TrainError> {
        let images = self.task.dataset.split(Split::Valid);
        let network = state.network.valid();
        let mut accumulator = MetricAccumulator::default();
        let ranges = batches(images, inference_batch(&self.task.experiment));
        self.reporter.phase(Phase::Validating, epoch, ranges.len());
        for range in ranges {
            let n = range.len();
            let batch = self.input.evaluation_batch(images, range)?;
            let logits = network.forward(batch.images);
            let loss = cross_entropy(logits.clone(), batch.labels.clone(), batch.distributions);
            accumulator.push(statistics(logits, batch.labels, loss), n);
            if self.reporter.step(n) {
                self.reporter.report(None);
            }
            match self.reporter.stop() {
                None => {}
                Some(Stop::Drop) => return Ok(None),
                Some(Stop::Drain) => {
                    let (steps, _) = first_steps(self.task, epoch, u32::MAX);
                    self.keep(state, Position::within(epoch, steps), totals);
                    return Ok(None);
                }
            }
        }
        // A validation loss that is not finite ends nothing: Keras goes on, too.
        let means = accumulator.read();
        self.reporter.report(None);
        Ok(Some(means))
    }

    /// Hands over the end of an epoch.
    pub(super) fn epoch_done(&mut self, state: &TrainState, moment: Moment) -> Option<Stop> {
        self.kept = moment.position();
        let snapshot = Box::new(state.snapshot(self.kept, None));
        self.reporter.checkpoint(Checkpoint { moment, snapshot })
    }

    /// Hands over a mid-epoch checkpoint, unless the callbacks have it.
    fn keep(
        &mut self,
        state: &TrainState,
        position: Position,
        totals: MetricTotals,
    ) -> Option<Stop> {
        if self.kept == position {
            return self.reporter.stop();
        }
        self.kept = position;
        self.reporter.checkpoint(Checkpoint {
            moment: Moment::MidEpoch(position),
            snapshot: Box::new(state.snapshot(position, Some(totals))),
        })
    }
}

/// The training steps of an epoch.
fn sampler(task: &TrainTask, epoch: Epoch) -> Sampler {
    let images = task.dataset.split(Split::Train).labels.len();
    let batch = task.experiment.batch_size as usize;
    Sampler::new(images, batch, task.run.seed, epoch)
}

/// How many of the first `steps` training steps an epoch has, and the images in them.
pub(super) fn first_steps(task: &TrainTask, epoch: Epoch, steps: u32) -> (u32, u64) {
    let sampler = sampler(task, epoch);
    let first = sampler.steps().take(steps as usize);
    first.fold((0, 0), |(steps, images), indices| {
        (steps + 1, images + indices.len() as u64)
    })
}
