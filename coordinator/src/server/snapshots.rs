//! Snapshots: the state of the experiment and of the fleet as people see it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::access::Policy;
use super::shell::Shell;
use crate::scheduler::{Lease, Now, Run, Scheduler, TaskRecord, Worker};
use quartet_status::snapshot::{
    EvaluationStatus, RunStatus, Snapshot, SplitAccuracy, WorkerStatus,
};

/// A view of a coordinator that lasts while it serves.
pub struct Snapshots {
    shell: Arc<Shell>,
    changes: watch::Receiver<u64>,
}

impl Snapshots {
    pub(super) fn new(shell: Arc<Shell>) -> Self {
        let changes = shell.scheduler.changes();
        Self { shell, changes }
    }

    /// The state now.
    #[must_use]
    pub fn now(&mut self) -> Snapshot {
        self.changes.mark_unchanged();
        snapshot(&self.shell)
    }

    /// Resolves after the next change.
    pub async fn changed(&mut self) {
        // The shell, which we hold, holds the sender.
        let _ = self.changes.changed().await;
    }
}

/// The state now.
pub(super) fn snapshot(shell: &Shell) -> Snapshot {
    let spec = &shell.experiment.spec.experiment;
    let splits = shell.conclusion.report().map_or_else(Vec::new, |report| {
        let splits = report.splits.iter().map(|split| SplitAccuracy {
            split: split.split.to_string(),
            images: split.images,
            accuracy: split.ensemble.accuracy,
        });
        splits.collect()
    });
    shell.scheduler.read(|scheduler, now| Snapshot {
        experiment: spec.name.clone(),
        term: shell.experiment.term,
        state: scheduler.experiment_state(),
        workers_expected: scheduler.config().workers_expected,
        runs: scheduler
            .runs()
            .iter()
            .map(|run| run_status(scheduler, run, now))
            .collect(),
        workers: scheduler
            .workers()
            .map(|worker| worker_status(scheduler, worker, now))
            .collect(),
        uptime: now.0,
        evaluation: evaluation_status(scheduler, splits, now),
        insecure: shell.policy == Policy::Insecure,
        store_trouble: shell.store_trouble.now(),
    })
}

/// The name of the worker that holds the task.
fn holder(scheduler: &Scheduler, record: &TaskRecord) -> Option<String> {
    let lease = record.lease()?;
    let known = scheduler
        .workers()
        .find(|worker| worker.info.id == lease.id.worker);
    let name = known
        .map(|worker| &worker.info.name)
        .or(lease.restored_name());
    Some(name.map_or_else(|| lease.id.worker.to_string(), String::clone))
}

/// How long the task has made no progress although its worker is heard of, if that is long.
fn stalled(scheduler: &Scheduler, record: &TaskRecord, now: Now) -> Option<Duration> {
    record.lease()?.stalled(scheduler.config(), now)
}

fn run_status(scheduler: &Scheduler, run: &Run, now: Now) -> RunStatus {
    let record = run.record();
    let last_epoch = run.committed().last_epoch;
    RunStatus {
        name: run.settings.name.clone(),
        backbone: run.settings.backbone,
        state: record.state(),
        attempt: record.attempt(),
        worker: holder(scheduler, record),
        epochs_committed: run.position().epoch.0,
        steps_committed: run.position().step,
        epochs: run.settings.epochs,
        metrics: last_epoch.map(|epoch| epoch.metrics),
        early_stopping: last_epoch.map(|epoch| epoch.early_stopping),
        progress: record.lease().and_then(|lease| lease.progress),
        eta: record.lease().and_then(|lease| eta(run, lease)),
        stalled: stalled(scheduler, record, now),
        awaited: record.lease().and_then(|lease| lease.awaited(now)),
        reason: record.reason().map(str::to_owned),
    }
}

/// The time until all epochs are trained, at the speed of the last one; `None` before the first.
fn eta(run: &Run, lease: &Lease) -> Option<Duration> {
    let (epoch, last) = (run.position().epoch, run.committed().last_epoch?);
    let progress = lease.progress?;
    let done = if progress.epoch > epoch && progress.steps > 0 {
        f64::from(progress.step) / f64::from(progress.steps)
    } else {
        0.0
    };
    let left = (f64::from(run.settings.epochs.saturating_sub(epoch.0)) - done).max(0.0);
    Duration::try_from_secs_f64(left * last.metrics.seconds).ok()
}

fn evaluation_status(
    scheduler: &Scheduler,
    splits: Vec<SplitAccuracy>,
    now: Now,
) -> EvaluationStatus {
    let record = scheduler.evaluation();
    EvaluationStatus {
        state: record.state(),
        attempt: record.attempt(),
        worker: holder(scheduler, record),
        progress: record.lease().and_then(|lease| lease.progress),
        stalled: stalled(scheduler, record, now),
        awaited: record.lease().and_then(|lease| lease.awaited(now)),
        reason: record.reason().map(str::to_owned),
        splits,
    }
}

fn worker_status(scheduler: &Scheduler, worker: &Worker, now: Now) -> WorkerStatus {
    WorkerStatus {
        id: worker.info.id.clone(),
        name: worker.info.name.clone(),
        device: worker.info.device.clone(),
        state: worker.state(scheduler.config()),
        task: worker.task().cloned(),
        since_heartbeat: now.since(worker.last_seen),
        gpu: worker.gpu,
    }
}
