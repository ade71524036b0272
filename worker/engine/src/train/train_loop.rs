//! The loop over an epoch: its training steps, its validation, and its mid-epoch checkpoints.

use std::io;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::tensor::Tensor;
use quartet_agent::executor::{Checkpoint, Moment, Stop, TrainTask};
use quartet_kernels::Addresses;
use quartet_shared::dataset::Split;
use quartet_shared::ids::Epoch;
use quartet_shared::position::Position;
use quartet_shared::progress::Phase;

use super::error::TrainError;
use super::state::{HostStep, StepInputs, TrainState};
use crate::batches::{Classifier, batches, inference_batch};
use crate::compute::Compute;
use crate::input::{Input, Sampler, batches_ahead};
use crate::metrics::{Means, MetricAccumulator, MetricTotals, cross_entropy, statistics};
use crate::progress::ProgressReporter;
use crate::repeat::{Computation, Repeated};

/// A run in progress, but for its [`TrainState`].
pub(super) struct TrainLoop<'a> {
    task: &'a TrainTask,
    input: Input,
    steps: Repeated<StepInputs>,
    classifier: Classifier,
    reporter: ProgressReporter<'a>,
    /// The last position whose state the callbacks have.
    kept: Position,
}

impl<'a> TrainLoop<'a> {
    pub(super) fn new(
        task: &'a TrainTask,
        compute: &Compute,
        reporter: ProgressReporter<'a>,
    ) -> io::Result<Self> {
        // They take their turns, and the memory of the larger.
        let family = compute.family();
        Ok(Self {
            task,
            input: compute.input(
                &task.dataset,
                &[Split::Train, Split::Valid],
                task.run.image_size,
            )?,
            steps: Repeated::new(compute, family.clone()),
            classifier: Classifier::new(compute, family),
            reporter,
            kept: task
                .resume
                .as_ref()
                .map_or_else(Position::default, |resume| resume.position),
        })
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
        let input = self.input.clone();
        let batches = sampler.steps().skip(done as usize).map(|indices| {
            let augmentation = &task.experiment.augmentation;
            input.host_training(images, indices, augmentation, task.run.seed, epoch)
        });
        batches_ahead(input.is_made_ahead(), batches, |batches| {
            let mut since = Instant::now();
            for step in done.. {
                let asked = Instant::now();
                let Some(batch) = batches.next() else { break };
                let host = state.host_step(batch?, epoch, u64::from(step));
                self.count_wait(asked);
                let n = host.batch.images;
                let statistics;
                (state, statistics) = step_once(state, host, &self.input, &mut self.steps);
                accumulator.push(statistics, n);
                if self.reporter.step(n) {
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
        })
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
        // With fixed addresses, what the classifier has recorded reads the same weights.
        let network = state.network.valid();
        let mut accumulator = MetricAccumulator::default();
        let ranges = batches(images, inference_batch(&self.task.experiment));
        self.reporter.phase(Phase::Validating, epoch, ranges.len());
        let input = self.input.clone();
        let made = ranges.into_iter();
        let made = made.map(|range| input.host_evaluation(images, Split::Valid, range));
        batches_ahead(input.is_made_ahead(), made, |made| {
            loop {
                let asked = Instant::now();
                let Some(host) = made.next().transpose()? else {
                    break;
                };
                self.count_wait(asked);
                let n = host.images;
                let statistics = self.classifier.run(&self.input, host, |batch| {
                    let logits = network.forward(batch.images);
                    let labels = batch.labels;
                    let loss = cross_entropy(logits.clone(), labels.clone(), batch.distributions);
                    statistics(logits, labels, loss)
                });
                accumulator.push(statistics, n);
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
        })
    }

    /// Counts the time that a batch has taken since it was asked for, unless the device has something to
    /// compute from before.
    fn count_wait(&mut self, asked: Instant) {
        match quartet_kernels::is_idle(self.input.device()) {
            Some(true) => self.reporter.waited(asked.elapsed()),
            Some(false) => self.reporter.waited(Duration::ZERO),
            None => {}
        }
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

/// One step. Where addresses are fixed, the state stays and its memory changes.
pub(super) fn step_once(
    state: TrainState,
    host: HostStep,
    input: &Input,
    steps: &mut Repeated<StepInputs>,
) -> (TrainState, Tensor<1>) {
    let kind = host.batch.kind();
    let upload = |host| TrainState::upload(host, input);
    let mut step = Step {
        fixed: steps.addresses() == Addresses::Fixed,
        state: Some(state),
        input,
    };
    let statistics = steps.run(kind, host, upload, &mut step);
    let mut state = step.state.expect("each step leaves a state");
    if step.fixed {
        state.adam.count_update();
    }
    (state, statistics)
}

/// A training step.
struct Step<'a> {
    /// Whether the state's memory is changed, or the state.
    fixed: bool,
    state: Option<TrainState>,
    input: &'a Input,
}

impl Computation<StepInputs> for Step<'_> {
    fn compute(&mut self, inputs: &StepInputs) -> Tensor<1> {
        if let (true, Some(state)) = (self.fixed, &self.state) {
            return state.step_in_place(inputs, self.input);
        }
        let before = self.state.take().expect("each step leaves a state");
        let (after, statistics) = before.step_on(inputs, self.input);
        self.state = Some(after);
        statistics
    }

    fn changed(&self) -> Vec<Tensor<1>> {
        self.state
            .as_ref()
            .map_or_else(Vec::new, TrainState::tensors)
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
