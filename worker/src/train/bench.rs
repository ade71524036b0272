//! What a training step costs: for the `bench` program.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use quartet_shared::dataset::{Dataset, EMOTIONS, Images, Split};
use quartet_shared::ids::Epoch;
use quartet_shared::spec::{Augmentation, ExperimentSpec, RunSpec};

use super::meter::Meter;
use super::{TrainError, TrainTask, prepare};
use crate::input::Input;

/// The cost of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepCost {
    /// Seconds per step: input, forward, backward and update.
    pub seconds_per_step: f64,
    /// Mean training loss of the steps.
    pub loss: f64,
}

/// Trains `warm_up` and then `steps` steps of the run on made-up images and times the latter.
///
/// # Errors
/// A loss that is not finite.
pub fn measure(
    experiment: ExperimentSpec,
    run: RunSpec,
    device: Device,
    warm_up: u32,
    steps: u32,
) -> Result<StepCost, TrainError> {
    let batch = experiment.batch_size as usize;
    let task = TrainTask {
        experiment,
        run,
        dataset: Arc::new(patterns(batch)),
        weights: None,
        resume: None,
        checkpoint_interval: None,
    };
    let (mut learner, _) = prepare(&task, &device)?;
    let input = Input::new(&task.dataset, task.run.image_size, &device);
    let images = task.dataset.split(Split::Train);
    let indices: Vec<usize> = (0..batch).collect();
    let augmentation = &task.experiment.augmentation;
    let mut meter = Meter::default();
    let mut started = Instant::now();
    for step in 0..warm_up + steps {
        if step == warm_up {
            if step > 0 {
                meter.read();
            }
            started = Instant::now();
        }
        let batch = input.training(
            images,
            &indices,
            augmentation,
            task.run.seed,
            Epoch(step + 1),
        );
        let (next, statistics) = learner.step(batch, Epoch(1), u64::from(step));
        learner = next;
        meter.push(statistics, indices.len());
    }
    let loss = meter.read().loss;
    let seconds_per_step = started.elapsed().as_secs_f64() / f64::from(steps);
    match meter.not_finite() {
        Some(step) => Err(TrainError::Diverged {
            epoch: Epoch(1),
            step,
        }),
        None => Ok(StepCost {
            seconds_per_step,
            loss,
        }),
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
    let input = Input::new(&dataset, image_size, device);
    let indices: Vec<usize> = (0..batch as usize).collect();
    let make = |epoch| {
        let batch = input.training(
            dataset.split(Split::Train),
            &indices,
            &augmentation,
            1,
            Epoch(epoch),
        );
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
    let train = Images { labels, pixels };
    Dataset {
        width: 48,
        height: 48,
        classes,
        splits: [train, Images::default(), Images::default()],
    }
}
