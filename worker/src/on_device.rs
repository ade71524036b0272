//! The agent's executor: the engine on a device, on a thread of its own for each task.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use futures::future::BoxFuture;
use quartet_agent::Link;
use quartet_agent::executor::{
    Callbacks, Checkpoint, EvaluateTask, Evaluated, Executor, ExecutorError, Stop, TrainTask,
    Trained, UnsupportedPrecision,
};
use quartet_engine::compute::Compute;
use quartet_engine::evaluate::evaluate;
use quartet_engine::memory::is_out_of_memory;
use quartet_engine::models::check_precision;
use quartet_engine::train::memory::{OutOfMemory, out_of_memory};
use quartet_engine::train::{TrainError, train};
use quartet_kernels::panic_message;
use quartet_shared::gpu::GpuUse;
use quartet_shared::ids::RunName;
use quartet_shared::predictions::Predictions;
use quartet_shared::progress::Progress;
use quartet_shared::provenance::Provenance;
use quartet_shared::spec::Precision;
use tokio::sync::oneshot;

use crate::device::TrainingDevice;
use crate::gpu_monitor::GpuMonitor;
use crate::provenance;

/// Computes with burn on a device.
#[derive(Clone, Debug)]
pub struct OnDevice {
    device: TrainingDevice,
    compute: Compute,
    monitor: Option<GpuMonitor>,
    provenance: Provenance,
}

impl OnDevice {
    /// On this device, which is that GPU if it is one, in this way.
    #[must_use]
    pub fn new(mut device: TrainingDevice, gpu: Option<usize>, compute: Compute) -> Self {
        let (monitor, gpu) = gpu.and_then(GpuMonitor::start).unzip();
        if let Some(gpu) = &gpu {
            device.description = format!("{}, {}", device.description, gpu.name);
        }
        Self {
            provenance: provenance::of(&device, gpu),
            device,
            compute,
            monitor,
        }
    }
}

impl Executor for OnDevice {
    fn description(&self) -> String {
        self.device.description.clone()
    }

    fn provenance(&self) -> Provenance {
        self.provenance.clone()
    }

    fn gpu(&self) -> Option<GpuUse> {
        self.monitor.as_ref()?.latest()
    }

    fn check_precision(&self, precision: Precision) -> Result<(), UnsupportedPrecision> {
        check_precision(precision, &self.device.device)
    }

    fn train(&self, task: TrainTask, link: Link) -> BoxFuture<'_, Result<Trained, ExecutorError>> {
        let compute = self.compute.clone();
        Box::pin(on_thread("train", link, move |link| {
            train_within_memory(&task, compute, link)
        }))
    }

    fn evaluate(
        &self,
        task: EvaluateTask,
        link: Link,
    ) -> BoxFuture<'_, Result<Evaluated, ExecutorError>> {
        let compute = self.compute.clone();
        Box::pin(on_thread("evaluate", link, move |link| {
            evaluate(&task, compute, link).map_err(ExecutorError::failed)
        }))
    }
}

/// Trains; where there is no memory for steps that are recorded, which keep memory of their own, from the
/// beginning once more without that. Not after a checkpoint, as the next attempt begins with that one; nor
/// where each attempt is to end with the same bytes.
fn train_within_memory(
    task: &TrainTask,
    mut compute: Compute,
    link: &mut dyn Callbacks,
) -> Result<Trained, ExecutorError> {
    let mut link = Watched {
        link,
        has_checkpoint: false,
    };
    loop {
        let training = AssertUnwindSafe(|| train(task, compute.clone(), &mut link));
        let panic = match catch_unwind(training) {
            Ok(trained) => return trained.map_err(|error| train_failure(task, error)),
            Err(panic) => panic,
        };
        let again = !link.has_checkpoint && !task.experiment.deterministic;
        match panic_failure(task, &compute, panic) {
            OutOfMemory::Taken(reason) if again && compute.records_steps() => {
                tracing::warn!("{reason}: so it begins again");
                compute = compute.with_graphs(false);
            }
            OutOfMemory::Taken(reason) => return Err(ExecutorError::Failed(reason)),
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

fn train_failure(task: &TrainTask, error: TrainError) -> ExecutorError {
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

/// Where a training does not fit, another try would want as much memory. Any other panic goes on.
fn panic_failure(task: &TrainTask, compute: &Compute, panic: Box<dyn Any + Send>) -> OutOfMemory {
    let message = panic_message(&*panic);
    if !is_out_of_memory(message) {
        resume_unwind(panic);
    }
    tracing::warn!("out of memory on the GPU; looking for the largest batch that fits: {message}");
    out_of_memory(task, compute, message)
}

/// Runs `compute` on a thread of its own; a panic becomes a failure.
async fn on_thread<T: Send + 'static>(
    name: &str,
    mut link: Link,
    compute: impl FnOnce(&mut Link) -> Result<T, ExecutorError> + Send + 'static,
) -> Result<T, ExecutorError> {
    let (sender, receiver) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let compute = AssertUnwindSafe(move || compute(&mut link));
            let result = catch_unwind(compute).unwrap_or_else(|panic| {
                let message = panic_message(&*panic);
                Err(ExecutorError::Failed(format!("panicked: {message}")))
            });
            quartet_kernels::release_memory();
            let _ = sender.send(result);
        });
    thread.map_err(|e| ExecutorError::Failed(format!("cannot start a thread: {e}")))?;
    let vanished = || ExecutorError::Failed("the compute thread vanished".into());
    receiver.await.unwrap_or_else(|_| Err(vanished()))
}
