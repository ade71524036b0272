//! The status service: snapshots, logs, and requests that change something for workers and runs.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use quartet_identity::Access;
use quartet_identity::session::Sessions;
use quartet_proto::v1;
use quartet_shared::clock;
use quartet_shared::ids::{Attempt, WorkerId};
use quartet_shared::task::Task;
use quartet_shared::wire::required;
use tonic::{Code, Request, Response, Status};

use super::logs;
use super::refusal::{bad, refused};
use super::registry::{Open, Registry};
use super::shell::Shell;
use super::snapshots::snapshot;
use crate::scheduler::{DrainCause, Refusal, Scheduler};

/// Least time between two snapshots of a stream.
const MIN_INTERVAL: Duration = Duration::from_millis(200);
/// The most that a watcher may ask for.
const MAX_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct StatusService {
    pub(super) registry: Arc<Registry>,
    pub(super) sessions: Option<Arc<Sessions>>,
}

impl StatusService {
    /// Who makes a call that changes something, if keys are used.
    fn who_changes<T>(&self, request: &Request<T>) -> Result<Option<String>, Status> {
        let policy = self.registry.policy;
        let by = policy.check(request.extensions(), Access::Change)?;
        Ok(by.map(str::to_owned))
    }
}

#[tonic::async_trait]
impl v1::status_server::Status for StatusService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::Snapshot, Status>> + Send>>;

    async fn get_snapshot(
        &self,
        request: Request<v1::GetSnapshotRequest>,
    ) -> Result<Response<v1::Snapshot>, Status> {
        let open = self.registry.named(&request.into_inner().experiment)?;
        Ok(Response::new(snapshot(&open.shell).into()))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        let by = self.who_changes(&request)?;
        let name = request.into_inner().worker;
        let (shell, worker) = match find(&self.registry, &name) {
            Err(status) if status.code() == Code::NotFound => {
                let waiting = self.registry.send_home(Some(&name));
                let worker = waiting.first().ok_or(status)?;
                tracing::info!(%worker, name, by, "draining");
                return Ok(Response::new(v1::DrainWorkerResponse {
                    worker_id: worker.to_string(),
                }));
            }
            found => found?,
        };
        if !shell.drain(&worker, DrainCause::SentHome) {
            return Err(Status::not_found(format!("worker {name} is not connected")));
        }
        tracing::info!(%worker, name, by, "draining");
        Ok(Response::new(v1::DrainWorkerResponse {
            worker_id: worker.to_string(),
        }))
    }

    async fn retry_task(
        &self,
        request: Request<v1::RetryTaskRequest>,
    ) -> Result<Response<v1::RetryTaskResponse>, Status> {
        let by = self.who_changes(&request)?;
        let request = request.into_inner();
        let task: Task = required(request.task, "task").map_err(bad)?;
        let open = self.registry.named(&request.experiment)?;
        let retry = |scheduler: &mut Scheduler, now| scheduler.retry(&task, now);
        let retried = open.shell.scheduler.tell(retry);
        let revoked = retried.map_err(|refusal| match refusal {
            Refusal::UnknownTask { .. } => {
                let runs = &open.shell.experiment.spec.experiment.runs;
                let runs: Vec<_> = runs.iter().map(|run| run.name.as_str()).collect();
                Status::not_found(format!("{refusal}; it has {}", runs.join(", ")))
            }
            refusal => refused(refusal),
        })?;
        if let Some(lease) = revoked {
            let reason = format!("{task} is tried again");
            open.shell.connections.revoke(&lease, &reason);
        }
        tracing::info!(%task, by, "tried again");
        Ok(Response::new(v1::RetryTaskResponse {}))
    }

    async fn drain_fleet(
        &self,
        request: Request<v1::DrainFleetRequest>,
    ) -> Result<Response<v1::DrainFleetResponse>, Status> {
        let by = self.who_changes(&request)?;
        let drain = |open: &Arc<Open>| open.shell.drain_all(DrainCause::SentHome);
        let at_work: usize = self.registry.all().iter().map(drain).sum();
        let workers = at_work + self.registry.send_home(None).len();
        tracing::info!(workers, by, "draining the fleet");
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        Ok(Response::new(v1::DrainFleetResponse { workers }))
    }

    async fn read_log(
        &self,
        request: Request<v1::ReadLogRequest>,
    ) -> Result<Response<v1::ReadLogResponse>, Status> {
        let v1::ReadLogRequest {
            task,
            attempt,
            after,
            experiment,
        } = request.into_inner();
        let open = self.registry.named(&experiment)?;
        let task: Task = required(task, "task").map_err(bad)?;
        let attempt = (attempt > 0).then_some(Attempt(attempt));
        let read = logs::read(&open.shell, &task, attempt, after).await?;
        Ok(Response::new(read))
    }

    async fn create_page_link(
        &self,
        _: Request<v1::CreatePageLinkRequest>,
    ) -> Result<Response<v1::CreatePageLinkResponse>, Status> {
        let sessions = self.sessions.as_ref();
        let token = sessions.map(|sessions| sessions.create_token(clock::unix_seconds()));
        Ok(Response::new(v1::CreatePageLinkResponse {
            token: token.unwrap_or_default(),
        }))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let asked = Duration::from_millis(request.min_interval_ms.into());
        let interval = asked.clamp(MIN_INTERVAL, MAX_INTERVAL);
        let shell = Arc::clone(&self.registry.named(&request.experiment)?.shell);
        let changes = shell.scheduler.changes();
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

/// The connected worker of this id or name, and the experiment for which it works.
fn find(registry: &Registry, name: &str) -> Result<(Arc<Shell>, WorkerId), Status> {
    let mut found = Vec::new();
    let mut present = Vec::new();
    for open in registry.all() {
        open.shell.scheduler.read(|scheduler, _| {
            for worker in scheduler.workers().filter(|worker| worker.connected) {
                let (id, label) = (&worker.info.id, worker.label());
                if id.as_str() == name || worker.info.name == name || label == name {
                    found.push((Arc::clone(&open.shell), id.clone()));
                }
                present.push(label);
            }
        });
    }
    match &found[..] {
        [(shell, worker)] => Ok((Arc::clone(shell), worker.clone())),
        [] => {
            let names = match &present[..] {
                [] => "none is connected".to_owned(),
                names => format!("connected are {}", names.join(", ")),
            };
            Err(Status::not_found(format!(
                "there is no worker {name}: {names}"
            )))
        }
        _ => {
            let ids: Vec<_> = found.iter().map(|(_, id)| id.as_str()).collect();
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
    /// The next snapshot. The last one says that the experiment has ended, or that the coordinator has
    /// stopped.
    async fn next(mut self) -> Option<(Result<v1::Snapshot, Status>, Self)> {
        if self.ended {
            return None;
        }
        if !std::mem::replace(&mut self.first, false) {
            let changed = async {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep(self.interval) => {}
                    () = self.shell.conclusion.ended() => {}
                }
                // The shell, which we hold, holds the sender.
                let _ = self.changes.changed().await;
            };
            tokio::select! {
                biased;
                () = self.shell.connections.closed() => self.ended = true,
                () = changed => {}
            }
        }
        self.changes.mark_unchanged();
        let snapshot = snapshot(&self.shell);
        self.ended |= snapshot.state.has_ended();
        Some((Ok(snapshot.into()), self))
    }
}
