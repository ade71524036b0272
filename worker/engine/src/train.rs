//! Training one run: the notebook's `fit_generator` with its callbacks.
//!
//! [`train`] blocks and belongs on a thread of its own. What it does depends on its [`TrainTask`] alone: a
//! run that was stopped at any step and resumed from its last checkpoint ends with the same bytes as one that
//! was not, on the same kind of device.

pub mod bench;
mod error;
pub mod memory;
mod prepare;
pub mod state;
mod train_loop;

#[cfg(test)]
mod tests;

use std::time::Instant;

use quartet_agent::executor::{Callbacks, Moment, TrainTask, Trained};
use quartet_shared::dataset::Split;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::Epoch;
use quartet_shared::outcome::Outcome;
use quartet_shared::position::Position;
use quartet_shared::progress::{EpochMetrics, Phase};
use quartet_shared::spec::ExperimentSpec;

use crate::compute::Compute;
use crate::progress::ProgressReporter;
use prepare::prepare;
use train_loop::TrainLoop;

pub use error::TrainError;

/// Trains the run on a device to its end, or until `callbacks` stop it, which are asked after every step.
///
/// # Errors
/// The loss is not finite, there are no images, or the checkpoint to resume from does not fit. Failures
/// inside of burn (such as no memory) are panics.
pub fn train(
    task: &TrainTask,
    compute: impl Into<Compute>,
    callbacks: &mut dyn Callbacks,
) -> Result<Trained, TrainError> {
    let compute = compute.into();
    for split in [Split::Train, Split::Valid] {
        if task.dataset.split(split).labels.is_empty() {
            return Err(TrainError::NoImages(split));
        }
    }
    let resume = task.resume.as_ref();
    let mut early_stopping = resume.and_then(|resume| resume.early_stopping);
    let Position { mut epoch, step } =
        resume.map_or_else(Position::default, |resume| resume.position);
    if let Some(outcome) = outcome(&task.experiment, epoch, early_stopping) {
        return Ok(Trained::Finished(outcome));
    }
    let mut reporter = ProgressReporter::new(callbacks, task.experiment.epochs);
    reporter.phase(Phase::Preparing, epoch.next(), 0);
    let (state, totals) = prepare(task, &compute.device)?;
    let mut state = state.placed(&compute);
    // What is done of the epoch to come.
    let mut begun = (step, totals);
    let mut train_loop = TrainLoop::new(task, &compute, reporter)?;
    loop {
        epoch = epoch.next();
        let (step, before) = std::mem::take(&mut begun);
        let started = Instant::now();
        let Some((trained, totals)) = train_loop.train(state, epoch, step, before)? else {
            return Ok(Trained::Stopped);
        };
        state = trained;
        let Some(valid_means) = train_loop.validate(&state, epoch, totals)? else {
            return Ok(Trained::Stopped);
        };
        let train_means = totals.means();
        let metrics = EpochMetrics {
            train_loss: train_means.loss,
            train_accuracy: train_means.accuracy,
            valid_loss: valid_means.loss,
            valid_accuracy: valid_means.accuracy,
            images_per_second: totals.images_per_second(),
            seconds: before.seconds + started.elapsed().as_secs_f64(),
        };
        let stopping = EarlyStopping::observe(early_stopping, epoch, metrics.valid_accuracy);
        early_stopping = Some(stopping);
        let moment = Moment::EpochEnd {
            epoch,
            metrics,
            early_stopping: stopping,
        };
        let stop = train_loop.epoch_done(&state, moment);
        if let Some(outcome) = outcome(&task.experiment, epoch, early_stopping) {
            return Ok(Trained::Finished(outcome));
        }
        if stop.is_some() {
            return Ok(Trained::Stopped);
        }
    }
}

/// How the run ended, if `epoch` is its last.
fn outcome(
    experiment: &ExperimentSpec,
    epoch: Epoch,
    early_stopping: Option<EarlyStopping>,
) -> Option<Outcome> {
    Outcome::after(
        epoch,
        early_stopping?,
        experiment.epochs,
        experiment.patience,
    )
}
