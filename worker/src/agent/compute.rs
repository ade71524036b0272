//! What computes: burn on a device, or whatever stands in for it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use futures::future::BoxFuture;
use quartet_shared::progress::Progress;
use quartet_shared::spec::Precision;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::link::Link;
use crate::device::{self, TrainingDevice, UnsupportedPrecision};
use crate::evaluate::{self, EvaluateTask, Evaluated};
use crate::train::{self, Checkpoint, Control, Observer, TrainError, TrainTask, Trained};

/// Trains and evaluates for the agent, which calls it in a tokio runtime, for one task at a time.
///
/// Whoever implements it tells [`Link`] how far it is and hands it the checkpoints, asks it after every step whether to
/// go on, and lets it go at the end. It never blocks the thread that polls it.
pub trait Compute: Send + Sync {
    /// What it is, for people.
    fn description(&self) -> String;

    /// Whether it computes in this precision.
    fn check_precision(&self, precision: Precision) -> Result<(), UnsupportedPrecision>;

    /// Trains a run to its end, or until `link` stops it.
    fn train(&self, task: TrainTask, link: Link) -> BoxFuture<'_, Result<Trained, ComputeError>>;

    /// Evaluates the ensemble, or until `link` stops it.
    fn evaluate(
        &self,
        task: EvaluateTask,
        link: Link,
    ) -> BoxFuture<'_, Result<Evaluated, ComputeError>>;
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// Something failed that may go well another time.
    #[error("{0}")]
    Failed(String),
    /// Nobody can compute it: what it was given is wrong.
    #[error("{0}")]
    Rejected(String),
}

impl ComputeError {
    /// A failure with all its causes.
    fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self::Failed(format!("{:#}", error.into()))
    }
}

/// Computes with burn, on a thread of its own for each task.
#[derive(Clone, Debug)]
pub struct OnDevice(pub TrainingDevice);

impl Compute for OnDevice {
    fn description(&self) -> String {
        self.0.description.clone()
    }

    fn check_precision(&self, precision: Precision) -> Result<(), UnsupportedPrecision> {
        device::check_precision(precision, &self.0.device)
    }

    fn train(&self, task: TrainTask, link: Link) -> BoxFuture<'_, Result<Trained, ComputeError>> {
        let device = self.0.device.clone();
        Box::pin(on_thread("train", link, move |observer| {
            train::train(&task, &device, observer).map_err(|error| not_trained(&task, error))
        }))
    }

    fn evaluate(
        &self,
        task: EvaluateTask,
        link: Link,
    ) -> BoxFuture<'_, Result<Evaluated, ComputeError>> {
        let device = self.0.device.clone();
        Box::pin(on_thread("evaluate", link, move |observer| {
            evaluate::evaluate(&task, &device, observer).map_err(ComputeError::failed)
        }))
    }
}

fn not_trained(task: &TrainTask, error: TrainError) -> ComputeError {
    match error {
        // Retrying would not help.
        TrainError::Weights(error) => {
            let reason = format!("{:#}", anyhow::Error::from(error));
            // The cached file's name says nothing to people.
            let cached = task.weights.as_deref().unwrap_or(Path::new(""));
            let source = task.run.weights.to_string();
            let reason = reason.replace(&*cached.to_string_lossy(), &source);
            ComputeError::Rejected(format!("weights cannot be used: {reason}"))
        }
        error => ComputeError::failed(error),
    }
}

/// A link for a thread that may block.
struct Blocking {
    link: Link,
    runtime: Handle,
}

impl Observer for Blocking {
    fn progress(&mut self, progress: Progress) {
        self.link.progress(progress);
    }

    fn control(&self) -> Control {
        self.link.control()
    }

    fn wants_state(&self) -> bool {
        self.link.wants_state()
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint) -> Control {
        self.runtime.block_on(self.link.checkpoint(checkpoint))
    }
}

/// Runs `compute` on a thread of its own; a panic becomes a failure.
async fn on_thread<T: Send + 'static>(
    name: &str,
    link: Link,
    compute: impl FnOnce(&mut dyn Observer) -> Result<T, ComputeError> + Send + 'static,
) -> Result<T, ComputeError> {
    let (sender, receiver) = oneshot::channel();
    let mut observer = Blocking {
        link,
        runtime: Handle::current(),
    };
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let compute = AssertUnwindSafe(move || compute(&mut observer));
            let result = catch_unwind(compute).unwrap_or_else(|panic| {
                let message = panic_message(&*panic);
                Err(ComputeError::Failed(format!("panicked: {message}")))
            });
            quartet_kernels::release_memory();
            let _ = sender.send(result);
        });
    thread.map_err(|e| ComputeError::Failed(format!("cannot start a thread: {e}")))?;
    receiver
        .await
        .unwrap_or_else(|_| Err(ComputeError::Failed("the compute thread vanished".into())))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
