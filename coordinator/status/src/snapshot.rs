//! The state of the experiment and of the fleet as people see it, named as in `status.proto`.

mod wire;

use std::time::Duration;

use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::gpu::GpuUse;
use quartet_shared::ids::{Attempt, Epoch, ExperimentName, Revision, RunName, Term, WorkerId};
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
    /// Which form of it.
    pub revision: Revision,
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
    /// Until all runs are trained by the workers that are there, were none stopped early.
    pub eta: Option<Duration>,
    /// The coordinator was told to stop: its workers hand their tasks back and leave it.
    pub stopping: bool,
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
    /// The runs that the ensemble lacks, if it is evaluated or about to be: they failed for good.
    #[must_use]
    pub fn missing(&self) -> Vec<&RunName> {
        let evaluation = self.evaluation.state;
        if matches!(evaluation, TaskState::Blocked | TaskState::Failed) {
            return Vec::new();
        }
        let failed = self
            .runs
            .iter()
            .filter(|run| run.state == TaskState::Failed);
        failed.map(|run| &run.name).collect()
    }

    /// How many workers are there.
    #[must_use]
    pub fn workers_present(&self) -> usize {
        let workers = self.workers.iter();
        workers.filter(|worker| worker.is_present()).count()
    }

    /// How many workers that are there look for the next coordinator once this one needs them no longer.
    #[must_use]
    pub fn workers_staying(&self) -> usize {
        let workers = self.workers.iter();
        workers
            .filter(|worker| worker.is_present() && worker.stays)
            .count()
    }

    /// The same, so much later, if nothing happens meanwhile.
    #[must_use]
    pub fn later(&self, by: Duration) -> Self {
        let mut later = self.clone();
        later.uptime = later.uptime.saturating_add(by);
        for worker in &mut later.workers {
            worker.since_heartbeat = worker.since_heartbeat.saturating_add(by);
        }
        if let Some(trouble) = &mut later.store_trouble {
            trouble.since = trouble.since.saturating_add(by);
        }
        let runs = later.runs.iter_mut();
        let waits = runs.map(|run| (&mut run.stalled, &mut run.awaited));
        let evaluation = &mut later.evaluation;
        for (stalled, awaited) in waits.chain([(&mut evaluation.stalled, &mut evaluation.awaited)])
        {
            *stalled = stalled.map(|stalled| stalled.saturating_add(by));
            *awaited = awaited.map(|awaited| awaited.saturating_sub(by));
        }
        later
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
    /// The last committed epochs, oldest first: snapshots may be further apart than epochs.
    pub recent_epochs: Vec<EpochStatus>,
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

/// A committed epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochStatus {
    /// Its number.
    pub epoch: Epoch,
    /// Its metrics.
    pub metrics: EpochMetrics,
    /// After it.
    pub early_stopping: EarlyStopping,
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
    /// Its name for people, numbered if others have the same.
    pub name: String,
    /// What it computes on.
    pub device: String,
    /// Where it is.
    pub state: WorkerState,
    /// Whether its connection stands; if not, it may come back.
    pub connected: bool,
    /// What it works on.
    pub task: Option<Task>,
    /// Since its last heartbeat.
    pub since_heartbeat: Duration,
    /// How its GPU did then, if it has one that can be asked.
    pub gpu: Option<GpuUse>,
    /// Whether it looks for the next coordinator once this one needs it no longer.
    pub stays: bool,
}

impl WorkerStatus {
    /// Whether it is there.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.connected && self.state != WorkerState::Lost
    }
}
