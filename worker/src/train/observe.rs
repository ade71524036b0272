//! What training tells the outside, and what it asks.

use std::time::{Duration, Instant};

use quartet_shared::ids::Epoch;
use quartet_shared::progress::{Phase, Progress};

use super::EpochCheckpoint;
use super::meter::Means;

/// Progress is reported at most this often: reading the loss makes the host wait for the device.
const INTERVAL: Duration = Duration::from_millis(300);

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Stop after this step.
    Stop,
}

/// Whoever listens to training. Its methods are called on the training thread and must not take long.
pub trait Observer: Send {
    /// Something has got on; at most a few times a second.
    fn progress(&mut self, progress: Progress);

    /// Asked after every step.
    fn control(&self) -> Control;

    /// An epoch is done. `Stop` ends training, for instance because checkpoints cannot be kept; after a run's last
    /// epoch it changes nothing.
    fn epoch_done(&mut self, checkpoint: EpochCheckpoint) -> Control;
}

/// Counts steps and images of a phase and decides when to report.
pub(crate) struct Reporter<'a> {
    observer: &'a mut dyn Observer,
    progress: Progress,
    images: usize,
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
            started: now,
            reported: now,
        }
    }

    /// Begins a phase and reports it; loss and accuracy stay those of the epoch until its training begins.
    pub(crate) fn phase(&mut self, phase: Phase, epoch: Epoch, steps: usize) {
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
            step: 0,
            steps,
            images_per_second: 0.0,
            loss,
            accuracy,
            ..self.progress
        };
        self.images = 0;
        self.started = Instant::now();
        self.send();
    }

    /// Counts a step; whether it is time to report.
    pub(crate) fn step(&mut self, images: usize) -> bool {
        self.progress.step += 1;
        self.images += images;
        self.reported.elapsed() >= INTERVAL
    }

    /// Reports, with new means if there are some.
    pub(crate) fn report(&mut self, means: Option<Means>) {
        if let Some(means) = means {
            (self.progress.loss, self.progress.accuracy) = (Some(means.loss), Some(means.accuracy));
        }
        self.progress.images_per_second = self.images_per_second();
        self.send();
    }

    /// Of the phase so far.
    pub(crate) fn images_per_second(&self) -> f64 {
        self.images as f64 / self.started.elapsed().as_secs_f64().max(1e-9)
    }

    pub(crate) fn control(&self) -> Control {
        self.observer.control()
    }

    pub(crate) fn epoch_done(&mut self, checkpoint: EpochCheckpoint) -> Control {
        self.observer.epoch_done(checkpoint)
    }

    fn send(&mut self) {
        self.reported = Instant::now();
        self.observer.progress(self.progress);
    }
}
