//! A training, and what becomes of one that there is no memory for.

use quartet_agent::executor::{Callbacks, Checkpoint, ExecutorError, Stop, TrainTask, Trained};
use quartet_engine::compute::Compute;
use quartet_engine::memory::within_memory;
use quartet_engine::train::memory::{Ask, OutOfMemory, out_of_memory};
use quartet_engine::train::{TrainError, train};
use quartet_shared::ids::RunName;
use quartet_shared::predictions::Predictions;
use quartet_shared::progress::Progress;

/// Trains; where there is no memory for steps that are recorded, which keep memory of their own, from the
/// beginning once more without that. Not after a checkpoint, as the next attempt begins with that one; nor
/// where each attempt is to end with the same bytes.
pub(super) fn train_within_memory(
    task: &TrainTask,
    compute: &Compute,
    link: &mut dyn Callbacks,
) -> Result<Trained, ExecutorError> {
    let launched = compute.clone().with_graphs(false);
    let how = |steps| match steps {
        Steps::Recorded => compute,
        Steps::Launched => &launched,
    };
    once_or_twice(
        !task.experiment.deterministic,
        link,
        |steps, link| train(task, how(steps).clone(), link).map_err(|e| failure(task, e)),
        |steps, message, stop| out_of_memory(task, how(steps), message, stop),
    )
}

/// How a GPU is told what to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Steps {
    /// At once for each step, where that can be had.
    Recorded,
    /// Operation by operation.
    Launched,
}

/// Trains with recorded steps and, if there is no memory for them and `again` allows it, without. `why` takes
/// what LibTorch says of it, and may be told to stop.
fn once_or_twice(
    again: bool,
    link: &mut dyn Callbacks,
    train: impl Fn(Steps, &mut dyn Callbacks) -> Result<Trained, ExecutorError>,
    why: impl Fn(Steps, &str, &mut Ask<'_>) -> OutOfMemory,
) -> Result<Trained, ExecutorError> {
    let mut link = Watched {
        link,
        has_checkpoint: false,
    };
    let mut steps = Steps::Recorded;
    loop {
        let message = match within_memory(|| train(steps, &mut link)) {
            Ok(trained) => return trained,
            Err(message) => message,
        };
        tracing::warn!("out of memory on the GPU; looking for what fits: {message}");
        let asked = &mut link;
        let why = why(steps, &message, &mut move || asked.stop().is_some());
        if link.stop().is_some() {
            return Ok(Trained::Stopped);
        }
        match why {
            OutOfMemory::Recorded(reason)
                if again && !link.has_checkpoint && steps == Steps::Recorded =>
            {
                tracing::warn!("{reason}: so it begins again");
                steps = Steps::Launched;
            }
            OutOfMemory::Recorded(reason) => {
                let advised = format!("{reason} (--cuda-graphs off)");
                return Err(ExecutorError::Failed(advised));
            }
            OutOfMemory::Taken(reason) => return Err(ExecutorError::Failed(reason)),
            // Another try would want as much memory.
            OutOfMemory::TooLarge(reason) => return Err(ExecutorError::Repeatable(reason)),
        }
    }
}

/// Whether a training has handed over a checkpoint.
struct Watched<'a> {
    link: &'a mut dyn Callbacks,
    has_checkpoint: bool,
}

impl Callbacks for Watched<'_> {
    fn on_progress(&mut self, progress: Progress) {
        self.link.on_progress(progress);
    }

    fn stop(&self) -> Option<Stop> {
        self.link.stop()
    }

    fn wants_mid_epoch_checkpoint(&self) -> bool {
        self.link.wants_mid_epoch_checkpoint()
    }

    fn on_checkpoint(&mut self, checkpoint: Checkpoint) -> Option<Stop> {
        self.has_checkpoint = true;
        self.link.on_checkpoint(checkpoint)
    }

    fn on_predictions(&mut self, run: &RunName, predictions: &Predictions) {
        self.link.on_predictions(run, predictions);
    }
}

fn failure(task: &TrainTask, error: TrainError) -> ExecutorError {
    match error {
        // Another try would fail in the same way. The cached file's name says nothing to people.
        TrainError::Weights(error) => {
            let error = anyhow::Error::from(error.about(&task.run.weights));
            ExecutorError::Rejected(format!("weights cannot be used: {error:#}"))
        }
        // The same state and the same batches have the same loss.
        error @ TrainError::Diverged { .. } => ExecutorError::Repeatable(error.to_string()),
        error => ExecutorError::failed(error),
    }
}

#[cfg(test)]
mod tests;
