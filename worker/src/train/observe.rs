//! What training tells the outside, and what it asks.

use std::time::{Duration, Instant};

use quartet_shared::checkpoint::Position;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::Epoch;
use quartet_shared::progress::{EpochMetrics, Phase, Progress};

use super::meter::{Means, Sums};
use crate::checkpoint::Snapshot;

/// Progress is reported at most this often: reading the loss makes the host wait for the device.
const INTERVAL: Duration = Duration::from_millis(300);

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Stop after this step; its state is of no use to anybody.
    Stop,
    /// Hand over the state after this step and stop.
    Drain,
}

/// A state of training on its way to be kept.
#[derive(Debug)]
pub struct Checkpoint {
    /// What it is the state after.
    pub moment: Moment,
    /// The state to be written.
    pub snapshot: Box<dyn Snapshot>,
}

/// What a checkpoint is the state after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    /// A whole epoch.
    EpochEnd {
        /// The epoch.
        epoch: Epoch,
        /// Its metrics.
        metrics: EpochMetrics,
        /// Early stopping after it.
        early_stopping: EarlyStopping,
    },
    /// A step within an epoch. After the last one the validation is still to be done.
    Within(Position),
}

impl Moment {
    /// The position that a resume names.
    #[must_use]
    pub fn position(&self) -> Position {
        match *self {
            Self::EpochEnd { epoch, .. } => Position::end_of(epoch),
            Self::Within(position) => position,
        }
    }
}

/// Whoever listens to training. Its methods are called on the training thread and must not take long.
pub trait Observer: Send {
    /// Something has got on; at most a few times a second.
    fn progress(&mut self, progress: Progress);

    /// Asked after every step.
    fn control(&self) -> Control;

    /// Asked when a state within an epoch is due: whether it would be of use. If not, it is due again after the next step.
    fn wants_state(&self) -> bool;

    /// An epoch is done, a state within one is due, or the observer drains. The answer is that of [`Self::control`], or
    /// `Stop` because checkpoints cannot be kept; after a run's last epoch it changes nothing.
    fn checkpoint(&mut self, checkpoint: Checkpoint) -> Control;
}

/// Counts steps and images of a phase and decides when to report.
pub(crate) struct Reporter<'a> {
    observer: &'a mut dyn Observer,
    progress: Progress,
    images: u64,
    /// Time that the phase took before it was resumed.
    before: f64,
    started: Instant,
    reported: Instant,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(observer: &'a mut dyn Observer, epochs: u32) -> Self {
        let now = Instant::now();
        let progress = Progress {
            phase: Phase::Preparing,
            epoch: Epoch(0),
            epochs,
            step: 0,
            steps: 0,
            images_per_second: 0.0,
            loss: None,
            accuracy: None,
        };
        Self {
            observer,
            progress,
            images: 0,
            before: 0.0,
            started: now,
            reported: now,
        }
    }

    /// Begins a phase and reports it; loss and accuracy stay those of the epoch until its training begins.
    pub(crate) fn phase(&mut self, phase: Phase, epoch: Epoch, steps: usize) {
        self.resume_phase(phase, epoch, steps, 0, Sums::default());
    }

    /// As [`Self::phase`], after `step` steps that are done.
    pub(crate) fn resume_phase(
        &mut self,
        phase: Phase,
        epoch: Epoch,
        steps: usize,
        step: u32,
        done: Sums,
    ) {
        let fresh = phase != Phase::Validating;
        let (loss, accuracy) = if fresh {
            (None, None)
        } else {
            (self.progress.loss, self.progress.accuracy)
        };
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.progress = Progress {
            phase,
            epoch,
            step,
            steps,
            images_per_second: 0.0,
            loss,
            accuracy,
            ..self.progress
        };
        self.images = done.images;
        self.before = done.seconds;
        self.started = Instant::now();
        self.send();
    }

    /// Counts a step; whether it is time to report.
    pub(crate) fn step(&mut self, images: usize) -> bool {
        self.progress.step += 1;
        self.images += images as u64;
        self.reported.elapsed() >= INTERVAL
    }

    /// Reports, with new means if there are some.
    pub(crate) fn report(&mut self, means: Option<Means>) {
        if let Some(means) = means {
            (self.progress.loss, self.progress.accuracy) = (Some(means.loss), Some(means.accuracy));
        }
        self.progress.images_per_second = self.images as f64 / self.seconds().max(1e-9);
        self.send();
    }

    /// Wall time of the phase so far.
    pub(crate) fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    pub(crate) fn control(&self) -> Control {
        self.observer.control()
    }

    pub(crate) fn wants_state(&self) -> bool {
        self.observer.wants_state()
    }

    pub(crate) fn checkpoint(&mut self, checkpoint: Checkpoint) -> Control {
        self.observer.checkpoint(checkpoint)
    }

    fn send(&mut self) {
        self.reported = Instant::now();
        self.observer.progress(self.progress);
    }
}
