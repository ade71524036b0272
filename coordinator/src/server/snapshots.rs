//! Snapshots: the state of the experiment and of the fleet as people see it.

mod eta;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::access::Policy;
use super::shell::Shell;
use crate::scheduler::{Now, Run, Scheduler, TaskRecord, Worker};
use quartet_status::snapshot::{
    EpochStatus, EvaluationStatus, RunStatus, Snapshot, SplitAccuracy, WorkerState, WorkerStatus,
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

    /// How many workers look for the next coordinator once this one has ended.
    #[must_use]
    pub fn staying(&self) -> usize {
        self.shell.staying()
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
        revision: shell.experiment.spec.revision(),
        term: shell.experiment.term,
        state: scheduler.experiment_state(),
        workers_expected: scheduler.config().workers_expected,
        runs: scheduler
            .runs()
            .iter()
            .map(|run| run_status(scheduler, run, now))
            .collect(),
        workers: workers(scheduler, now),
        uptime: now.0,
        eta: eta::of_experiment(scheduler, now),
        stopping: shell.connections.is_stopping(),
        evaluation: evaluation_status(scheduler, splits, now),
        insecure: shell.policy == Policy::Insecure,
        store_trouble: shell.store_trouble.now(),
    })
}

/// The name of the worker that holds the task.
fn holder(scheduler: &Scheduler, record: &TaskRecord) -> Option<String> {
    Some(scheduler.label_of(record.lease()?))
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
        recent_epochs: run
            .recent_epochs()
            .map(|(epoch, result)| EpochStatus {
                epoch,
                metrics: result.metrics,
                early_stopping: result.early_stopping,
            })
            .collect(),
        progress: record.lease().and_then(|lease| lease.progress),
        eta: eta::of_run(run, now),
        stalled: stalled(scheduler, record, now),
        awaited: record.lease().and_then(|lease| lease.awaited(now)),
        reason: record.reason().map(str::to_owned),
    }
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

/// The workers that have joined, and those that an older coordinator gave work to and that are to come back.
fn workers(scheduler: &Scheduler, now: Now) -> Vec<WorkerStatus> {
    let records = scheduler.runs().iter().map(Run::record);
    let leases = records
        .chain([scheduler.evaluation()])
        .filter_map(TaskRecord::lease);
    let joined: BTreeSet<_> = scheduler.workers().map(|worker| &worker.info.id).collect();
    let awaited = leases
        .filter(|lease| !joined.contains(&lease.id.worker))
        .map(|lease| WorkerStatus {
            id: lease.id.worker.clone(),
            name: scheduler.label_of(lease),
            device: String::new(),
            state: WorkerState::Busy,
            connected: false,
            task: Some(lease.id.task.clone()),
            since_heartbeat: now.0,
            gpu: None,
            // Until it is back.
            stays: false,
        });
    let joined = scheduler.workers();
    let joined = joined.map(|worker| worker_status(scheduler, worker, now));
    joined.chain(awaited).collect()
}

fn worker_status(scheduler: &Scheduler, worker: &Worker, now: Now) -> WorkerStatus {
    WorkerStatus {
        id: worker.info.id.clone(),
        name: worker.label(),
        device: worker.info.device.clone(),
        state: worker.state(scheduler.config()),
        connected: worker.connected,
        task: worker.task().cloned(),
        since_heartbeat: now.since(worker.last_seen),
        gpu: worker.gpu,
        stays: worker.stays(),
    }
}
