//! What training and evaluation report.

use std::time::{Duration, Instant};

use quartet_agent::executor::{Callbacks, Checkpoint, Stop};
use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::predictions::Predictions;
use quartet_shared::progress::{Phase, Progress};

use crate::metrics::{Means, MetricTotals};

/// Progress is reported at most this often: reading the loss makes the host wait for the device.
const INTERVAL: Duration = Duration::from_millis(300);

/// Counts steps and images of a phase and decides when to report.
pub(crate) struct ProgressReporter<'a> {
    callbacks: &'a mut dyn Callbacks,
    progress: Progress,
    images: u64,
    /// Time that the phase took before it was resumed.
    before: f64,
    /// Time of this phase in which the device waited for its input, if that is known.
    waited: Option<Duration>,
    started: Instant,
    reported: Instant,
}

impl<'a> ProgressReporter<'a> {
    pub(crate) fn new(callbacks: &'a mut dyn Callbacks, epochs: u32) -> Self {
        let now = Instant::now();
        Self {
            callbacks,
            progress: Progress::preparing(epochs),
            images: 0,
            before: 0.0,
            waited: None,
            started: now,
            reported: now,
        }
    }

    /// Begins a phase and reports it; loss and accuracy stay those of the epoch until its training begins.
    pub(crate) fn phase(&mut self, phase: Phase, epoch: Epoch, steps: usize) {
        self.resume_phase(phase, epoch, steps, 0, MetricTotals::default());
    }

    /// As [`Self::phase`], after `step` steps that are done.
    pub(crate) fn resume_phase(
        &mut self,
        phase: Phase,
        epoch: Epoch,
        steps: usize,
        step: u32,
        done: MetricTotals,
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
            input_wait: None,
            loss,
            accuracy,
            ..self.progress
        };
        self.images = done.images;
        self.before = done.seconds;
        self.waited = None;
        self.started = Instant::now();
        self.send();
    }

    /// Hands over what a member of the ensemble says of the evaluated images.
    pub(crate) fn predictions(&mut self, run: &RunName, predictions: &Predictions) {
        self.callbacks.on_predictions(run, predictions);
    }

    /// Counts the time in which the device had nothing to do but to wait for a batch.
    pub(crate) fn waited(&mut self, time: Duration) {
        *self.waited.get_or_insert_default() += time;
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
        let share = |waited: Duration| {
            let seconds = self.started.elapsed().as_secs_f64();
            (waited.as_secs_f64() / seconds.max(1e-9)).min(1.0)
        };
        self.progress.input_wait = self.waited.map(share);
        self.send();
    }

    /// Wall time of the phase so far.
    pub(crate) fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    pub(crate) fn stop(&self) -> Option<Stop> {
        self.callbacks.stop()
    }

    pub(crate) fn wants_mid_epoch_checkpoint(&self) -> bool {
        self.callbacks.wants_mid_epoch_checkpoint()
    }

    pub(crate) fn checkpoint(&mut self, checkpoint: Checkpoint) -> Option<Stop> {
        self.callbacks.on_checkpoint(checkpoint)
    }

    fn send(&mut self) {
        self.reported = Instant::now();
        self.callbacks.on_progress(self.progress);
    }
}
