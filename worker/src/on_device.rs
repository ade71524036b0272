//! The agent's executor: the engine on a device, on a thread of its own for each task.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use quartet_agent::Link;
use quartet_agent::executor::{
    EvaluateTask, Evaluated, Executor, ExecutorError, TrainTask, Trained, UnsupportedPrecision,
};
use quartet_engine::compute::Compute;
use quartet_engine::evaluate::evaluate;
use quartet_engine::memory::{is_out_of_memory, release_forward_passes};
use quartet_engine::models::check_precision;
use quartet_engine::train::memory::{OutOfMemory, out_of_memory};
use quartet_engine::train::{TrainError, train};
use quartet_kernels::panic_message;
use quartet_shared::gpu::GpuUse;
use quartet_shared::ids::RunName;
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
    unrecorded: Unrecorded,
}

/// The runs for which there was no memory, but perhaps is without recorded steps, which keep memory of their
/// own.
#[derive(Clone, Debug, Default)]
struct Unrecorded(Arc<Mutex<BTreeSet<RunName>>>);

impl Unrecorded {
    fn runs(&self) -> MutexGuard<'_, BTreeSet<RunName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            unrecorded: Unrecorded::default(),
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
        let mut compute = self.compute.clone();
        let unrecorded = self.unrecorded.clone();
        Box::pin(on_thread("train", link, move |link| {
            if unrecorded.runs().contains(&task.run.name) {
                compute = compute.with_graphs(false);
            }
            let training = AssertUnwindSafe(|| train(&task, compute.clone(), link));
            match catch_unwind(training) {
                Ok(trained) => trained.map_err(|error| train_failure(&task, error)),
                Err(panic) => {
                    release_forward_passes(&compute.device);
                    Err(panic_failure(&task, &compute, &unrecorded, panic))
                }
            }
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

/// Where a training does not fit, another try would want as much memory, but for that of recorded steps. Any
/// other panic goes on.
fn panic_failure(
    task: &TrainTask,
    compute: &Compute,
    unrecorded: &Unrecorded,
    panic: Box<dyn Any + Send>,
) -> ExecutorError {
    let message = panic_message(&*panic);
    if !is_out_of_memory(message) {
        resume_unwind(panic);
    }
    tracing::warn!("out of memory on the GPU; looking for the largest batch that fits: {message}");
    match out_of_memory(task, compute, message) {
        OutOfMemory::Taken(reason) if compute.has_graphs() => {
            unrecorded.runs().insert(task.run.name.clone());
            ExecutorError::Failed(format!(
                "{reason} without recorded steps, so this worker records no more of this run's"
            ))
        }
        OutOfMemory::Taken(reason) => ExecutorError::Failed(reason),
        OutOfMemory::TooLarge(reason) => ExecutorError::Repeatable(reason),
    }
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
