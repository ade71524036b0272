//! What a training step costs: for the `bench` program.

use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use quartet_agent::executor::TrainTask;
use quartet_shared::dataset::{Channels, Dataset, EMOTIONS, Images, Split};
use quartet_shared::ids::Epoch;
use quartet_shared::spec::{Augmentation, ExperimentSpec, RunSpec};

use super::error::TrainError;
use super::memory::out_of_memory;
use super::prepare::prepare;
use super::train_loop::step_once;
use crate::batches::Classifier;
use crate::compute::Compute;
use crate::memory::{description, within_memory};
use crate::metrics::{MetricAccumulator, cross_entropy, statistics};
use crate::repeat::Repeated;

/// Steps after which the host waits for the device, as a training does from time to time.
const FREE_STEPS: u32 = 10;

/// The cost of a step: medians over the steps that were timed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepCost {
    /// Seconds per step.
    pub total: f64,
    /// Seconds of its parts, if they were timed: input pipeline, forward, backward, optimizer.
    pub parts: Option<[f64; 4]>,
    /// Mean training loss of all steps.
    pub loss: f64,
    /// The most bytes of tensors that there were on a GPU of LibTorch's.
    pub gpu_bytes: Option<u64>,
    /// Whether steps were recorded and replayed.
    pub recorded: bool,
}

/// Why a step cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// It fails.
    #[error(transparent)]
    Failed(#[from] TrainError),
    /// It does not fit onto the device; with what would fit, if that was looked for.
    #[error("{0}")]
    OutOfMemory(String),
}

/// Why images can be read.
const IN_MEMORY: &str = "the images are in memory";

/// What is measured.
#[derive(Clone, Debug)]
pub struct Work {
    /// Where precision, batch size and augmentation come from.
    pub experiment: ExperimentSpec,
    /// Backbone, image size and width.
    pub run: RunSpec,
    /// Steps that are not timed, before those that are.
    pub warm_up: u32,
    /// Steps that are timed.
    pub steps: u32,
    /// Whether the host waits for the device after each part of a step, to time it. Else it waits after ten
    /// steps, whose mean counts: a device that computes while the host goes on is faster so.
    pub parts: bool,
}

/// Classifies one batch again and again, as a validation does. Backward pass and optimizer take no time.
///
/// # Errors
/// A precision that the device does not have, or no memory.
pub fn measure_inference(work: Work, compute: &Compute) -> Result<StepCost, MeasureError> {
    let task = task(&work);
    within_memory(|| inference(&work, &task, compute)).map_or_else(
        |message| {
            let (batch, size) = (work.experiment.batch_size, work.run.image_size);
            let backbone = work.run.backbone;
            let what = format_args!("{backbone} with {batch} images of {size}x{size}");
            Err(MeasureError::OutOfMemory(description(&message, what)))
        },
        |cost| Ok(cost?),
    )
}

/// Trains the run on made-up images.
///
/// # Errors
/// A loss that is not finite, a precision that the device does not have, or no memory.
pub fn measure(work: Work, compute: &Compute) -> Result<StepCost, MeasureError> {
    let task = task(&work);
    // What is timed in parts is not recorded.
    let compute = match work.parts {
        true => &compute.clone().with_graphs(false),
        false => compute,
    };
    within_memory(|| training(&work, &task, compute)).map_or_else(
        |message| {
            let why = out_of_memory(&task, compute, &message, &mut || false);
            Err(MeasureError::OutOfMemory(why.to_string()))
        },
        |cost| Ok(cost?),
    )
}

fn inference(work: &Work, task: &TrainTask, compute: &Compute) -> Result<StepCost, TrainError> {
    let (state, _) = prepare(task, &compute.device)?;
    let network = compute.arranged(state.network.valid());
    let input = compute.input(&task.dataset, &[Split::Train], task.run.image_size)?;
    let mut classifier = Classifier::new(compute, compute.family());
    let images = task.dataset.split(Split::Train);
    let mut accumulator = MetricAccumulator::default();
    let times = timed(work, &compute.device, |_, lap| {
        let host = input
            .host_evaluation(images, Split::Train, 0..images.labels.len())
            .expect(IN_MEMORY);
        lap();
        let statistics = classifier.run(&input, host, |batch| {
            let logits = network.forward(batch.images);
            let loss = cross_entropy(logits.clone(), batch.labels.clone(), batch.distributions);
            statistics(logits, batch.labels, loss)
        });
        lap();
        accumulator.push(statistics, images.labels.len());
    });
    let loss = accumulator.read().loss;
    Ok(StepCost {
        gpu_bytes: quartet_kernels::peak_bytes(&compute.device),
        recorded: classifier.is_recorded(),
        ..times.cost(loss)
    })
}

fn training(work: &Work, task: &TrainTask, compute: &Compute) -> Result<StepCost, TrainError> {
    let (state, _) = prepare(task, &compute.device)?;
    let input = compute.input(&task.dataset, &[Split::Train], task.run.image_size)?;
    let mut steps = Repeated::new(compute, compute.family());
    let state = state.placed(compute);
    let indices: Vec<usize> = (0..work.experiment.batch_size as usize).collect();
    let mut accumulator = MetricAccumulator::default();
    let mut state = Some(state);
    let times = timed(work, &compute.device, |step, lap| {
        let batch = input
            .host_training(
                task.dataset.split(Split::Train),
                &indices,
                &task.experiment.augmentation,
                task.run.seed,
                Epoch(step + 1),
            )
            .expect(IN_MEMORY);
        let before = state.take().expect("each step leaves a state");
        if !work.parts {
            let host = before.host_step(batch, Epoch(1), u64::from(step));
            let (after, statistics) = step_once(before, host, &input, &mut steps);
            state = Some(after);
            accumulator.push(statistics, indices.len());
            return;
        }
        let batch = input.decode(&input.upload(batch));
        lap();
        let (loss, statistics) = before.forward(batch, Epoch(1), u64::from(step));
        lap();
        let gradients = loss.backward();
        lap();
        state = Some(before.update(gradients, None));
        lap();
        accumulator.push(statistics, indices.len());
    });
    let loss = accumulator.read().loss;
    match accumulator.not_finite() {
        Some(step) => Err(TrainError::Diverged {
            epoch: Epoch(1),
            step,
        }),
        None => Ok(StepCost {
            gpu_bytes: quartet_kernels::peak_bytes(&compute.device),
            recorded: steps.is_recorded(),
            ..times.cost(loss)
        }),
    }
}

fn task(work: &Work) -> TrainTask {
    TrainTask {
        experiment: work.experiment.clone(),
        run: work.run.clone(),
        dataset: Arc::new(patterns(work.experiment.batch_size as usize)),
        weights: None,
        resume: None,
        checkpoint_interval: None,
    }
}

/// The times of the steps, and of their parts.
#[derive(Default)]
struct Times {
    totals: Vec<f64>,
    parts: Option<[Vec<f64>; 4]>,
}

impl Times {
    fn push_parts(&mut self, laps: &[f64]) {
        self.totals.push(laps.iter().sum());
        let parts = self.parts.get_or_insert_default();
        for (part, lap) in parts.iter_mut().zip(laps) {
            part.push(*lap);
        }
    }

    fn cost(self, loss: f64) -> StepCost {
        StepCost {
            total: median(self.totals),
            parts: self.parts.map(|parts| parts.map(median)),
            loss,
            gpu_bytes: None,
            recorded: false,
        }
    }
}

/// Does all steps, of which those after the warm-up are timed. A step gets its number, and what it calls
/// after each of its parts.
fn timed(work: &Work, device: &Device, mut step: impl FnMut(u32, &mut dyn FnMut())) -> Times {
    let wait = || device.sync().expect("the device works");
    for number in 0..work.warm_up {
        step(number, &mut || {});
    }
    let mut times = Times::default();
    let (mut number, end) = (work.warm_up, work.warm_up + work.steps);
    while number < end {
        wait();
        let mut since = Instant::now();
        if work.parts {
            let mut laps = Vec::new();
            step(number, &mut || {
                wait();
                laps.push(since.elapsed().as_secs_f64());
                since = Instant::now();
            });
            times.push_parts(&laps);
            number += 1;
        } else {
            let group = FREE_STEPS.min(end - number);
            for number in number..number + group {
                step(number, &mut || {});
            }
            wait();
            let seconds = since.elapsed().as_secs_f64();
            times.totals.push(seconds / f64::from(group));
            number += group;
        }
    }
    times
}

/// The median; 0 without a value.
fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// Training images a second that the input pipeline alone makes, with the notebook's augmentation.
#[must_use]
pub fn input_speed(image_size: u32, batch: u32, batches: u32, device: &Device) -> f64 {
    let augmentation = Augmentation {
        height_shift: 0.1,
        width_shift: 0.1,
        zoom: 0.1,
        horizontal_flip: true,
    };
    let dataset = patterns(batch as usize);
    let input = Compute::from(device)
        .input(&dataset, &[Split::Train], image_size)
        .expect(IN_MEMORY);
    let indices: Vec<usize> = (0..batch as usize).collect();
    let make = |epoch| {
        let batch = input
            .training(
                dataset.split(Split::Train),
                &indices,
                &augmentation,
                1,
                Epoch(epoch),
            )
            .expect(IN_MEMORY);
        // The sum makes the host wait for the device; it costs little.
        batch.images.narrow(1, 0, 1).sum().into_scalar::<f32>()
    };
    make(0);
    let started = Instant::now();
    for epoch in 1..=batches {
        make(epoch);
    }
    f64::from(batch * batches) / started.elapsed().as_secs_f64()
}

/// `n` images of FER2013's shape that are neither flat nor noise.
fn patterns(n: usize) -> Dataset {
    let pixels = (0..n * 48 * 48)
        .map(|i| ((i / 48) * (i % 48) * (i / 2304 + 1) % 256) as u8)
        .collect();
    let labels = (0..n).map(|i| (i % EMOTIONS.len()) as u8).collect();
    let classes = EMOTIONS.map(str::to_owned).to_vec();
    let train = Images {
        labels,
        pixels,
        ..Images::default()
    };
    Dataset {
        width: 48,
        height: 48,
        channels: Channels::Gray,
        classes,
        // A training wants something to validate on.
        splits: [train.clone(), train, Images::default()],
    }
}
