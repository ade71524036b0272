//! The agent's executor: the engine on a device, on a thread of its own for each task.

mod training;

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Device;
use futures::future::BoxFuture;
use quartet_agent::Link;
use quartet_agent::executor::{
    EvaluateTask, Evaluated, Executor, ExecutorError, TrainTask, Trained, UnsupportedPrecision,
};
use quartet_engine::compute::Compute;
use quartet_engine::evaluate::evaluate;
use quartet_engine::memory::release_forward_passes;
use quartet_engine::models::check_precision;
use quartet_kernels::panic_message;
use quartet_shared::gpu::GpuUse;
use quartet_shared::provenance::Provenance;
use quartet_shared::spec::Precision;
use tokio::sync::oneshot;

use self::training::train_within_memory;
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
        let device = compute.device.clone();
        Box::pin(on_thread("train", device, link, move |link| {
            train_within_memory(&task, &compute, link)
        }))
    }

    fn evaluate(
        &self,
        task: EvaluateTask,
        link: Link,
    ) -> BoxFuture<'_, Result<Evaluated, ExecutorError>> {
        let compute = self.compute.clone();
        let device = compute.device.clone();
        Box::pin(on_thread("evaluate", device, link, move |link| {
            evaluate(&task, compute, link).map_err(ExecutorError::failed)
        }))
    }
}

/// Runs `compute` on a thread of its own; a panic becomes a failure. What it took of the device's
/// memory is given back, but for checkpoints that are on their way.
async fn on_thread<T: Send + 'static>(
    name: &str,
    device: Device,
    mut link: Link,
    compute: impl FnOnce(&mut Link) -> Result<T, ExecutorError> + Send + 'static,
) -> Result<T, ExecutorError> {
    let (sender, receiver) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let compute = AssertUnwindSafe(move || compute(&mut link));
            let result = catch_unwind(compute).unwrap_or_else(|panic| {
                release_forward_passes(&device);
                let message = panic_message(&*panic);
                Err(ExecutorError::Failed(format!("panicked: {message}")))
            });
            quartet_kernels::release_memory(&device);
            let _ = sender.send(result);
        });
    thread.map_err(|e| ExecutorError::Failed(format!("cannot start a thread: {e}")))?;
    let vanished = || ExecutorError::Failed("the compute thread vanished".into());
    receiver.await.unwrap_or_else(|_| Err(vanished()))
}
