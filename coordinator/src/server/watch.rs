//! The status service: what people watch.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use quartet_proto::v1;
use quartet_shared::ids::WorkerId;
use quartet_shared::task::Task;
use tonic::{Request, Response, Status};

use super::shell::Shell;
use crate::scheduler::{self, Lease, Now, Run, Scheduler, TaskRecord};
use quartet_status::snapshot::{
    EvaluationStatus, ExperimentState, RunStatus, Snapshot, SplitAccuracy, TaskState, WorkerState,
    WorkerStatus,
};

/// Least time between two snapshots of a stream.
const MIN_INTERVAL: Duration = Duration::from_millis(200);
/// Longest such time that a watcher may ask for.
const MAX_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct StatusService {
    pub(super) shell: Arc<Shell>,
}

#[tonic::async_trait]
impl v1::status_server::Status for StatusService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::Snapshot, Status>> + Send>>;

    async fn get_snapshot(
        &self,
        _: Request<v1::GetSnapshotRequest>,
    ) -> Result<Response<v1::Snapshot>, Status> {
        Ok(Response::new(snapshot(&self.shell).into()))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        let name = request.into_inner().worker;
        let worker = self.shell.read(|scheduler, _| find(scheduler, &name))?;
        if !self.shell.drain(&worker, "someone asked for it") {
            return Err(Status::not_found(format!("worker {name} is not connected")));
        }
        tracing::info!(%worker, name, "draining");
        Ok(Response::new(v1::DrainWorkerResponse {
            worker_id: worker.to_string(),
        }))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let asked = Duration::from_millis(request.into_inner().min_interval_ms.into());
        let interval = asked.clamp(MIN_INTERVAL, MAX_INTERVAL);
        let shell = Arc::clone(&self.shell);
        let changes = shell.changes();
        let watch = Watch {
            shell,
            changes,
            interval,
            first: true,
            ended: false,
        };
        Ok(Response::new(
            futures::stream::unfold(watch, Watch::next).boxed(),
        ))
    }
}

/// The worker of this id or name that is there.
fn find(scheduler: &Scheduler, name: &str) -> Result<WorkerId, Status> {
    let present = || scheduler.workers().filter(|worker| worker.connected);
    let found: Vec<_> = present()
        .filter(|worker| worker.info.id.as_str() == name || worker.info.name == name)
        .map(|worker| worker.info.id.clone())
        .collect();
    match &found[..] {
        [worker] => Ok(worker.clone()),
        [] => {
            let names: Vec<_> = present().map(|worker| &worker.info.name[..]).collect();
            let names = match &names[..] {
                [] => "none is connected".to_owned(),
                names => format!("connected are {}", names.join(", ")),
            };
            Err(Status::not_found(format!(
                "there is no worker {name}: {names}"
            )))
        }
        _ => {
            let ids: Vec<_> = found.iter().map(WorkerId::as_str).collect();
            Err(Status::failed_precondition(format!(
                "{} workers are called {name}; use an id: {}",
                ids.len(),
                ids.join(", ")
            )))
        }
    }
}

struct Watch {
    shell: Arc<Shell>,
    changes: tokio::sync::watch::Receiver<u64>,
    interval: Duration,
    first: bool,
    ended: bool,
}

impl Watch {
    /// The next snapshot; the one that says that the experiment has ended is the last.
    async fn next(mut self) -> Option<(Result<v1::Snapshot, Status>, Self)> {
        if self.ended {
            return None;
        }
        if !std::mem::replace(&mut self.first, false) {
            let end = self.shell.ended();
            tokio::select! {
                biased;
                () = tokio::time::sleep(self.interval) => {}
                () = end => {}
            }
            // The shell, which we hold, holds the sender.
            let _ = self.changes.changed().await;
        }
        self.changes.mark_unchanged();
        let snapshot = snapshot(&self.shell);
        self.ended = matches!(
            snapshot.state,
            ExperimentState::Finished | ExperimentState::Failed
        );
        Some((Ok(snapshot.into()), self))
    }
}

/// The state now.
pub(super) fn snapshot(shell: &Shell) -> Snapshot {
    let spec = &shell.experiment.spec.experiment;
    let splits = shell.report().map_or_else(Vec::new, |report| {
        let splits = report.splits.iter().map(|split| SplitAccuracy {
            split: split.split.to_string(),
            images: split.images,
            accuracy: split.ensemble.accuracy,
        });
        splits.collect()
    });
    shell.read(|scheduler, now| Snapshot {
        experiment: spec.name.clone(),
        term: shell.experiment.term,
        state: match scheduler.experiment_state() {
            scheduler::ExperimentState::Waiting => ExperimentState::Waiting,
            scheduler::ExperimentState::Training => ExperimentState::Training,
            scheduler::ExperimentState::Evaluating => ExperimentState::Evaluating,
            scheduler::ExperimentState::Finished => ExperimentState::Finished,
            scheduler::ExperimentState::Failed { .. } => ExperimentState::Failed,
        },
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
    })
}

fn task_state(record: &TaskRecord) -> TaskState {
    match record.state() {
        scheduler::TaskState::Blocked => TaskState::Blocked,
        scheduler::TaskState::Pending { .. } => TaskState::Pending,
        scheduler::TaskState::Leased(_) => TaskState::Leased,
        scheduler::TaskState::Finished(_) => TaskState::Finished,
        scheduler::TaskState::Failed { .. } => TaskState::Failed,
    }
}

/// The name of the worker that holds the task.
fn holder(scheduler: &Scheduler, record: &TaskRecord) -> Option<String> {
    let lease = record.lease()?;
    let known = scheduler
        .workers()
        .find(|worker| worker.info.id == lease.id.worker);
    let name = known.map(|worker| &worker.info.name).or(lease.restored());
    Some(name.map_or_else(|| lease.id.worker.to_string(), String::clone))
}

/// For how long the task has stood still although its worker is heard of, if that is long.
fn stalled(scheduler: &Scheduler, record: &TaskRecord, now: Now) -> Option<Duration> {
    record.lease()?.stalled(scheduler.config(), now)
}

fn run_status(scheduler: &Scheduler, run: &Run, now: Now) -> RunStatus {
    let record = run.record();
    let committed = run.committed();
    let epochs_committed = committed.map_or(0, |(epoch, _)| epoch.0);
    RunStatus {
        name: run.plan.name.clone(),
        backbone: run.plan.backbone,
        state: task_state(record),
        attempt: record.attempt(),
        worker: holder(scheduler, record),
        epochs_committed,
        steps_committed: run.position().step,
        epochs: run.plan.epochs,
        metrics: committed.map(|(_, epoch)| epoch.metrics),
        early_stopping: committed.map(|(_, epoch)| epoch.early_stopping),
        progress: record.lease().and_then(|lease| lease.progress),
        eta: record.lease().and_then(|lease| eta(run, lease)),
        stalled: stalled(scheduler, record, now),
        awaited: record.lease().and_then(|lease| lease.awaited(now)),
        reason: record.reason().map(str::to_owned),
    }
}

/// Until all epochs are trained, at the speed of the last one; `None` before there was one.
fn eta(run: &Run, lease: &Lease) -> Option<Duration> {
    let (epoch, committed) = run.committed()?;
    let progress = lease.progress?;
    let within = if progress.epoch > epoch && progress.steps > 0 {
        f64::from(progress.step) / f64::from(progress.steps)
    } else {
        0.0
    };
    let left = (f64::from(run.plan.epochs.saturating_sub(epoch.0)) - within).max(0.0);
    Duration::try_from_secs_f64(left * committed.metrics.seconds).ok()
}

fn evaluation_status(
    scheduler: &Scheduler,
    splits: Vec<SplitAccuracy>,
    now: Now,
) -> EvaluationStatus {
    let record = scheduler.evaluation();
    EvaluationStatus {
        state: task_state(record),
        attempt: record.attempt(),
        worker: holder(scheduler, record),
        progress: record.lease().and_then(|lease| lease.progress),
        stalled: stalled(scheduler, record, now),
        awaited: record.lease().and_then(|lease| lease.awaited(now)),
        reason: record.reason().map(str::to_owned),
        splits,
    }
}

fn worker_status(scheduler: &Scheduler, worker: &scheduler::Worker, now: Now) -> WorkerStatus {
    let (state, task): (_, Option<Task>) = match &worker.state {
        scheduler::WorkerState::Idle if scheduler.is_quarantined(worker) => {
            (WorkerState::Quarantined, None)
        }
        scheduler::WorkerState::Idle => (WorkerState::Idle, None),
        scheduler::WorkerState::Busy(task) if worker.is_draining() => {
            (WorkerState::Draining, Some(task.clone()))
        }
        scheduler::WorkerState::Busy(task) => (WorkerState::Busy, Some(task.clone())),
        scheduler::WorkerState::Draining => (WorkerState::Draining, None),
        scheduler::WorkerState::Lost => (WorkerState::Lost, None),
    };
    WorkerStatus {
        id: worker.info.id.clone(),
        name: worker.info.name.clone(),
        device: worker.info.device.clone(),
        state,
        task,
        since_heartbeat: now.since(worker.last_seen),
    }
}
