mod exact;
mod files;
#[cfg(feature = "tch")]
mod fixed;
mod freeze;
mod mutated;
mod precision;
mod shared;
mod soft;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use std::sync::Arc;
use std::time::Duration;

use burn::tensor::Device;
use quartet_agent::executor::{Checkpoint, CheckpointFiles, Resume, Stop};
use quartet_shared::dataset::{Channels, Dataset, Images};
use quartet_shared::ids::RunName;
use quartet_shared::outcome::StopReason;
use quartet_shared::predictions::Predictions;
use quartet_shared::progress::Progress;
use quartet_shared::spec::{Augmentation, Backbone, Preset};

use super::*;
use crate::devices::cpus;

const SIDE: usize = 12;

/// Three classes of bars: across, upright, and a dot, each somewhere, on a noisy ground.
fn bars(train: usize, valid: usize) -> Arc<Dataset> {
    let images = |n: usize, seed: u64| {
        let mut rng =
            crate::input::random::stream(crate::input::random::Purpose::Order, seed, Epoch(0), 0);
        let mut images = Images::default();
        for i in 0..n {
            let at = crate::input::random::below(&mut rng, SIDE - 4) + 2;
            let class = i % 3;
            for y in 0..SIDE {
                for x in 0..SIDE {
                    let (near_x, near_y) = (x.abs_diff(at) < 2, y.abs_diff(at) < 2);
                    let lit = [near_y, near_x, near_x && near_y][class];
                    let noise = crate::input::random::below(&mut rng, 40) as u8;
                    images.pixels.push(if lit { 200 + noise } else { noise });
                }
            }
            images.labels.push(class as u8);
        }
        images
    };
    let splits = [images(train, 1), images(valid, 2), images(valid, 3)];
    let side = SIDE as u16;
    let classes = ["across", "upright", "dot"].map(str::to_owned).to_vec();
    Arc::new(Dataset {
        width: side,
        height: side,
        channels: Channels::Gray,
        classes,
        splits,
    })
}

pub(super) fn task(train: usize, width: f64, epochs: u32) -> TrainTask {
    let mut experiment = Preset::Demo.spec();
    experiment.epochs = epochs;
    experiment.batch_size = 8;
    experiment.patience = 50;
    experiment.batch_norm_momentum = 0.9;
    experiment.augmentation = Augmentation {
        height_shift: 0.1,
        width_shift: 0.1,
        zoom: 0.1,
        horizontal_flip: true,
    };
    let mut run = experiment
        .runs
        .iter()
        .find(|run| run.backbone == Backbone::Vgg16)
        .unwrap()
        .clone();
    (run.width, run.image_size, run.dropout, run.learning_rate) = (width, 32, 0.2, 2e-3);
    TrainTask {
        experiment,
        run,
        dataset: bars(train, 24),
        weights: None,
        resume: None,
        checkpoint_interval: None,
    }
}

/// Trains on flex.
fn train(task: &TrainTask, callbacks: &mut dyn Callbacks) -> Result<Trained, TrainError> {
    train_on(&Device::flex(), task, callbacks)
}

fn train_on(
    device: &Device,
    task: &TrainTask,
    callbacks: &mut dyn Callbacks,
) -> Result<Trained, TrainError> {
    super::train(task, device, callbacks)
}

/// A finished epoch as it was handed over.
#[derive(Clone, Debug)]
struct Done {
    epoch: Epoch,
    metrics: EpochMetrics,
    early_stopping: EarlyStopping,
    files: CheckpointFiles,
}

/// Writes every checkpoint and says what it is told to.
struct Keep<'a> {
    folder: &'a Path,
    /// What to answer from the so-manieth question on, from 1.
    answer: Option<(u32, Stop)>,
    asked: AtomicU32,
    stop_after_epoch: Option<u32>,
    /// Whether it wants states within an epoch.
    wants_states: bool,
    phases: Vec<Phase>,
    done: Vec<Done>,
    states: Vec<(Position, CheckpointFiles)>,
}

impl<'a> Keep<'a> {
    fn new(folder: &'a Path) -> Self {
        Self {
            folder,
            answer: None,
            asked: AtomicU32::new(0),
            stop_after_epoch: None,
            wants_states: true,
            phases: Vec::new(),
            done: Vec::new(),
            states: Vec::new(),
        }
    }

    fn answering(folder: &'a Path, question: u32, stop: Stop) -> Self {
        Self {
            answer: Some((question, stop)),
            ..Self::new(folder)
        }
    }

    fn answer(&self) -> Option<Stop> {
        match self.answer {
            Some((question, stop)) if question <= self.asked.load(Ordering::Relaxed) => Some(stop),
            _ => None,
        }
    }

    /// Where the run goes on that this has seen, which went on from `before`.
    fn resume(&self, before: Option<&Resume>) -> Option<Resume> {
        let done = self.done.last();
        let (position, files) = match (done, self.states.last()) {
            (Some(done), None) => (Position::end_of(done.epoch), &done.files),
            (Some(done), Some((position, _))) if position.epoch < done.epoch => {
                (Position::end_of(done.epoch), &done.files)
            }
            (_, Some((position, files))) => (*position, files),
            (None, None) => return before.cloned(),
        };
        let early_stopping = match done {
            Some(done) => Some(done.early_stopping),
            None => before.and_then(|before| before.early_stopping),
        };
        Some(Resume {
            position,
            early_stopping,
            weights: files.weights.path.clone(),
            training_state: files.training_state.path.clone(),
        })
    }
}

impl Callbacks for Keep<'_> {
    fn on_progress(&mut self, progress: Progress) {
        assert!(progress.step <= progress.steps);
        if self.phases.last() != Some(&progress.phase) {
            self.phases.push(progress.phase);
        }
    }

    fn stop(&self) -> Option<Stop> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.answer()
    }

    fn wants_mid_epoch_checkpoint(&self) -> bool {
        self.wants_states
    }

    fn on_predictions(&mut self, _: &RunName, _: &Predictions) {
        unreachable!("nothing is evaluated")
    }

    fn on_checkpoint(&mut self, checkpoint: Checkpoint) -> Option<Stop> {
        let Checkpoint { moment, snapshot } = checkpoint;
        let position = moment.position();
        // Written on another thread, as the worker does it.
        let (folder, stem) = (
            self.folder.to_owned(),
            format!("{}-{}", position.epoch, position.step),
        );
        let writer = std::thread::spawn(move || snapshot.write(&folder, &stem).unwrap());
        let files = writer.join().unwrap();
        match moment {
            Moment::EpochEnd {
                epoch,
                metrics,
                early_stopping,
            } => {
                self.done.push(Done {
                    epoch,
                    metrics,
                    early_stopping,
                    files,
                });
                if self.stop_after_epoch == Some(epoch.0) {
                    return Some(Stop::Drop);
                }
            }
            Moment::MidEpoch(position) => self.states.push((position, files)),
        }
        self.answer()
    }
}

fn bits(metrics: &EpochMetrics) -> [u64; 4] {
    [
        metrics.train_loss,
        metrics.train_accuracy,
        metrics.valid_loss,
        metrics.valid_accuracy,
    ]
    .map(f64::to_bits)
}

/// Whether both went through the same epochs, but for how long they took.
fn assert_same_epochs(a: &[Done], b: &[Done]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_eq!(
            (a.epoch, bits(&a.metrics), a.early_stopping),
            (b.epoch, bits(&b.metrics), b.early_stopping)
        );
        assert_eq!(a.files.weights.blob, b.files.weights.blob);
        assert_eq!(a.files.training_state.blob, b.files.training_state.blob);
    }
}

#[test]
fn learns_to_tell_bars_apart() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = task(240, 0.05, 8);
    task.run.dropout = 0.0;
    task.experiment.batch_size = 16;
    task.experiment.augmentation = Augmentation {
        height_shift: 0.05,
        width_shift: 0.05,
        zoom: 0.05,
        horizontal_flip: true,
    };
    let mut keep = Keep::new(folder.path());
    train(&task, &mut keep).unwrap();
    let accuracies: Vec<f64> = keep
        .done
        .iter()
        .map(|epoch| epoch.metrics.train_accuracy)
        .collect();
    assert!(accuracies.last().unwrap() > &0.9, "{accuracies:?}");
    let losses: Vec<f64> = keep
        .done
        .iter()
        .map(|epoch| epoch.metrics.train_loss)
        .collect();
    assert!(losses.last().unwrap() < &losses[0], "{losses:?}");
}

#[test]
fn early_stopping_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = task(9, 0.05, 50);
    // Nothing is learned, so no epoch is better than the first. One of two batches has one image.
    task.run.learning_rate = 1e-30;
    task.experiment.batch_norm_momentum = 1.0;
    task.experiment.patience = 2;
    let mut keep = Keep::new(folder.path());
    let Trained::Finished(outcome) = train(&task, &mut keep).unwrap() else {
        panic!("stopped")
    };
    assert_eq!(
        (outcome.epochs, outcome.best_epoch, outcome.stop_reason),
        (3, Epoch(1), StopReason::EarlyStopping)
    );
    assert!(
        keep.done
            .iter()
            .all(|epoch| epoch.metrics.train_loss.is_finite())
    );
}

#[test]
fn a_loss_that_is_not_finite_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = task(16, 0.05, 5);
    task.run.learning_rate = f64::INFINITY;
    let error = train(&task, &mut Keep::new(folder.path())).unwrap_err();
    assert!(
        matches!(
            error,
            TrainError::Diverged {
                epoch: Epoch(1),
                step: 2
            }
        ),
        "{error}"
    );
}
