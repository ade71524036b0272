//! The state of the experiment and of the fleet as people see it, named as in `status.proto`.

mod wire;

use std::time::Duration;

use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::gpu::GpuUse;
use quartet_shared::ids::{Attempt, ExperimentName, RunName, Term, WorkerId};
use quartet_shared::progress::{EpochMetrics, Progress};
use quartet_shared::spec::Backbone;
use quartet_shared::task::Task;

pub use quartet_shared::state::{ExperimentState, TaskState, WorkerState};
pub use wire::InvalidSnapshot;

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The experiment's name.
    pub experiment: ExperimentName,
    /// The coordinator's claim on it; grows with every restart.
    pub term: Term,
    /// Where the experiment is.
    pub state: ExperimentState,
    /// How many workers the fleet should have.
    pub workers_expected: u32,
    /// The runs, in the order of the experiment's spec.
    pub runs: Vec<RunStatus>,
    /// The workers, the lost ones included.
    pub workers: Vec<WorkerStatus>,
    /// Since this coordinator started.
    pub uptime: Duration,
    /// Whoever reaches the coordinator may do everything: it uses no keys, and other machines reach it.
    pub insecure: bool,
    /// Set while the store fails.
    pub store_trouble: Option<StoreTrouble>,
    /// The ensemble's evaluation.
    pub evaluation: EvaluationStatus,
}

/// A store that fails, and is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreTrouble {
    /// Since its first failure.
    pub since: Duration,
    /// Its last failure.
    pub reason: String,
}

impl Snapshot {
    /// How many workers are there.
    #[must_use]
    pub fn workers_present(&self) -> usize {
        self.workers
            .iter()
            .filter(|worker| worker.state != WorkerState::Lost)
            .count()
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStatus {
    /// Its name.
    pub name: RunName,
    /// What it trains.
    pub backbone: Backbone,
    /// Where it is.
    pub state: TaskState,
    /// Number of leases so far; 0 before the first.
    pub attempt: Attempt,
    /// Name of the worker that trains it now.
    pub worker: Option<String>,
    /// Epochs whose checkpoints are in the store.
    pub epochs_committed: u32,
    /// Steps of the epoch after them that are in the store, too.
    pub steps_committed: u32,
    /// Epochs at most.
    pub epochs: u32,
    /// Of the last committed epoch.
    pub metrics: Option<EpochMetrics>,
    /// After the last committed epoch.
    pub early_stopping: Option<EarlyStopping>,
    /// What its worker last said.
    pub progress: Option<Progress>,
    /// Until all epochs are trained, were none stopped early.
    pub eta: Option<Duration>,
    /// For how long it has made no progress although its worker is heard of, if that is long.
    pub stalled: Option<Duration>,
    /// How long its worker, which is not connected, may take at most to come back.
    pub awaited: Option<Duration>,
    /// Why it failed, or why its last attempt ended.
    pub reason: Option<String>,
}

/// The ensemble's evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationStatus {
    /// Where it is.
    pub state: TaskState,
    /// Number of leases so far; 0 before the first.
    pub attempt: Attempt,
    /// Name of the worker that evaluates now.
    pub worker: Option<String>,
    /// What its worker last said.
    pub progress: Option<Progress>,
    /// For how long it has made no progress although its worker is heard of, if that is long.
    pub stalled: Option<Duration>,
    /// How long its worker, which is not connected, may take at most to come back.
    pub awaited: Option<Duration>,
    /// Why it failed, or why its last attempt ended.
    pub reason: Option<String>,
    /// The ensemble's accuracy by split, once finished.
    pub splits: Vec<SplitAccuracy>,
}

/// The ensemble's accuracy on one split.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitAccuracy {
    /// The split's name.
    pub split: String,
    /// How many images it has.
    pub images: u64,
    /// Accuracy, a fraction of 1.
    pub accuracy: f64,
}

/// One worker.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerStatus {
    /// Its identity.
    pub id: WorkerId,
    /// Its name for people.
    pub name: String,
    /// What it computes on.
    pub device: String,
    /// Where it is.
    pub state: WorkerState,
    /// What it works on.
    pub task: Option<Task>,
    /// Since its last heartbeat.
    pub since_heartbeat: Duration,
    /// How its GPU did then, if it has one that can be asked.
    pub gpu: Option<GpuUse>,
}
