//! The workers' service: decodes, asks the scheduler, encodes.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use quartet_proto::PROTOCOL_VERSION;
use quartet_proto::v1::{self, coordinator_message, worker_message};
use quartet_shared::ids::WorkerId;
use quartet_shared::outcome::Outcome;
use quartet_shared::report::EvaluationReport;
use quartet_shared::task::LeaseId;
use quartet_shared::wire::{lease_and_progress, required};
use quartet_store::layout;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::refusal::{bad, missing, refused};
use super::shell::{OUTBOX_SIZE, Shell};
use super::{Timing, commit, finish, rewind};
use crate::scheduler::WorkerInfo;
use quartet_store::StoreError;

/// How long a new stream may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest piece of an object in one message.
const CHUNK_SIZE: usize = 1 << 20;

pub(super) struct FleetService {
    pub(super) shell: Arc<Shell>,
    pub(super) timing: Timing,
}

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl v1::fleet_server::Fleet for FleetService {
    type AttachStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;
    type GetObjectStream = ResponseStream<v1::GetObjectResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut messages = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, messages.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let Some(v1::WorkerMessage {
            message: Some(worker_message::Message::Hello(hello)),
        }) = first
        else {
            return Err(Status::invalid_argument(
                "the first message must be a hello",
            ));
        };
        let newest = hello.term;
        let (info, held) = check_hello(hello)?;
        if newest > self.shell.experiment.term.0 {
            tracing::warn!(worker = %info.id, term = newest, "the worker has seen a newer coordinator");
            self.shell.check_rule().await?;
        }
        let worker = info.id.clone();
        let (outbox, responses) = mpsc::channel(OUTBOX_SIZE);
        let spec = &self.shell.experiment.spec.experiment;
        let welcome = v1::Welcome {
            experiment: spec.name.to_string(),
            term: self.shell.experiment.term.0,
            heartbeat_interval_ms: millis(self.timing.heartbeat_interval),
            lease_ms: millis(self.timing.lease),
            checkpoint_interval_ms: millis(self.timing.checkpoint_interval),
            precision: spec.precision.as_str().to_owned(),
        };
        let welcome = v1::CoordinatorMessage {
            message: Some(coordinator_message::Message::Welcome(welcome)),
        };
        // The channel is new and has room.
        let _ = outbox.try_send(Ok(welcome));
        let stream = self.shell.attach(worker.clone(), outbox);
        tracing::info!(%worker, name = %info.name, device = %info.device, held = held.as_ref().map(tracing::field::display), "worker joined");
        let joined = self
            .shell
            .tell(|scheduler, now| scheduler.join(info, held.clone(), now));
        if let (Some(held), Some(refusal)) = (held, joined.refused()) {
            tracing::warn!(lease = %held, %refusal, "the worker's lease is no longer valid");
            self.shell.revoke(&held, &refusal.to_string());
        }
        if self.shell.is_stopping() {
            self.shell.drain(&worker, "the coordinator stops");
        }
        let shell = Arc::clone(&self.shell);
        tokio::spawn(async move {
            let end = tokio::select! {
                biased;
                end = listen(&shell, &worker, &mut messages) => end,
                () = shell.closed() => StreamEnd::Broken("the coordinator has ended".to_owned()),
            };
            tracing::info!(%worker, reason = %end, "worker's stream ended");
            shell.detach(&worker, stream, matches!(end, StreamEnd::Left));
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn commit_checkpoint(
        &self,
        request: Request<Streaming<v1::CommitCheckpointRequest>>,
    ) -> Result<Response<v1::CommitCheckpointResponse>, Status> {
        // On a task of its own: a commit that has begun is carried to its end, whatever becomes of the caller.
        let commit = commit::commit(Arc::clone(&self.shell), request.into_inner());
        tokio::spawn(commit)
            .await
            .map_err(|e| Status::internal(format!("the commit broke off: {e}")))??;
        Ok(Response::new(v1::CommitCheckpointResponse {}))
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let request = request.into_inner();
        let lease: LeaseId = required(request.lease, "lease").map_err(bad)?;
        let shell = Arc::clone(&self.shell);
        let done = match request.result.ok_or_else(|| missing("result"))? {
            v1::complete_request::Result::Training(outcome) => {
                let outcome = Outcome::try_from(outcome).map_err(bad)?;
                tokio::spawn(finish::run(shell, lease, outcome))
            }
            v1::complete_request::Result::Evaluation(json) => {
                let report: EvaluationReport = serde_json::from_slice(&json).map_err(bad)?;
                tokio::spawn(finish::evaluation(shell, lease, report))
            }
        };
        done.await
            .map_err(|e| Status::internal(format!("the completion broke off: {e}")))??;
        Ok(Response::new(v1::CompleteResponse {}))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let request = request.into_inner();
        let kind = request.kind();
        let lease: LeaseId = required(request.lease, "lease").map_err(bad)?;
        match kind {
            v1::ReleaseKind::Unspecified => return Err(missing("kind")),
            v1::ReleaseKind::Drained => {
                tracing::info!(%lease, "task handed back");
                self.shell
                    .tell(|scheduler, now| scheduler.release(&lease, now))
                    .map_err(refused)?;
            }
            v1::ReleaseKind::Failed => {
                let reason = request.reason;
                let decision = self
                    .shell
                    .tell(|scheduler, now| scheduler.fail(&lease, reason.clone(), now))
                    .map_err(refused)?;
                tracing::error!(%lease, %reason, "task failed; {decision}");
            }
            v1::ReleaseKind::Corrupt => {
                let shell = Arc::clone(&self.shell);
                let rewind = rewind::rewind(shell, lease, request.object, request.reason);
                tokio::spawn(rewind)
                    .await
                    .map_err(|e| Status::internal(format!("the rewind broke off: {e}")))??;
            }
            v1::ReleaseKind::Rejected => {
                let reason = request.reason;
                self.shell
                    .tell(|scheduler, now| scheduler.reject(&lease, reason.clone(), now))
                    .map_err(refused)?;
                tracing::error!(%lease, %reason, "task cannot be done");
            }
        }
        Ok(Response::new(v1::ReleaseResponse {}))
    }

    async fn get_object(
        &self,
        request: Request<v1::GetObjectRequest>,
    ) -> Result<Response<Self::GetObjectStream>, Status> {
        let key = request.into_inner().key;
        let experiment = &self.shell.experiment;
        let shared = layout::SHARED.map(|folder| format!("{folder}/"));
        let served = key.starts_with(&experiment.layout.prefix())
            || shared.iter().any(|folder| key.starts_with(folder));
        if !served
            || key
                .split('/')
                .any(|part| part.is_empty() || part == "." || part == "..")
        {
            return Err(Status::permission_denied(format!(
                "{key:?} is not an object of this experiment"
            )));
        }
        let shell = Arc::clone(&self.shell);
        let chunks = match experiment.store.read(&key).await {
            Ok(chunks) => chunks,
            Err(error) => {
                // Nothing is there when the store itself is gone; that is no failure of the task.
                if matches!(error, StoreError::NotFound { .. }) {
                    shell.check_rule().await?;
                }
                return Err(shell.store_failed(error));
            }
        };
        let messages = chunks.flat_map(move |chunk| {
            let pieces: Vec<_> = match chunk {
                Ok(bytes) => (0..bytes.len())
                    .step_by(CHUNK_SIZE)
                    .map(|start| bytes.slice(start..bytes.len().min(start + CHUNK_SIZE)))
                    .map(|chunk| Ok(v1::GetObjectResponse { chunk }))
                    .collect(),
                Err(error) => vec![Err(shell.store_failed(error))],
            };
            futures::stream::iter(pieces)
        });
        Ok(Response::new(Box::pin(messages)))
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn check_hello(hello: v1::Hello) -> Result<(WorkerInfo, Option<LeaseId>), Status> {
    if hello.protocol_version != PROTOCOL_VERSION {
        return Err(Status::failed_precondition(format!(
            "the worker speaks protocol version {}, this coordinator version {PROTOCOL_VERSION}; install the same version of Quartet on both",
            hello.protocol_version
        )));
    }
    let id: WorkerId = hello.worker_id.parse().map_err(bad)?;
    let held: Option<LeaseId> = hello.held.map(TryInto::try_into).transpose().map_err(bad)?;
    if held.as_ref().is_some_and(|lease| lease.worker != id) {
        return Err(Status::invalid_argument(
            "a worker cannot hold the lease of another",
        ));
    }
    Ok((
        WorkerInfo {
            id,
            name: hello.name,
            device: hello.device,
        },
        held,
    ))
}

/// How a worker's stream has ended.
enum StreamEnd {
    /// The worker closed it, as it does when it exits.
    Left,
    /// Otherwise.
    Broken(String),
}

impl fmt::Display for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("it left"),
            Self::Broken(reason) => f.write_str(reason),
        }
    }
}

/// Takes a worker's messages until its stream ends; returns why it did.
async fn listen(
    shell: &Shell,
    worker: &WorkerId,
    messages: &mut Streaming<v1::WorkerMessage>,
) -> StreamEnd {
    let broken = |reason: String| StreamEnd::Broken(reason);
    loop {
        let heartbeat = match messages.message().await {
            Ok(Some(v1::WorkerMessage {
                message: Some(worker_message::Message::Heartbeat(heartbeat)),
            })) => heartbeat,
            Ok(Some(_)) => return broken("it sent something other than a heartbeat".into()),
            Ok(None) => return StreamEnd::Left,
            Err(status) => return broken(format!("connection lost: {}", status.message())),
        };
        let progress = match heartbeat.progress.map(lease_and_progress).transpose() {
            Ok(progress) => progress,
            Err(error) => return broken(format!("it sent a bad heartbeat: {error}")),
        };
        let lease = progress.as_ref().map(|(lease, _)| lease.clone());
        let (back, reply) = shell.note(|scheduler, now| {
            let back = progress.is_none() && scheduler.is_lost(worker);
            (back, scheduler.heartbeat(worker, progress, now))
        });
        if back {
            // It is free again, and may get a task.
            shell.wake();
        }
        match reply {
            Ok(reply) => {
                if let (Some(lease), Some(refusal)) = (lease, reply.refused()) {
                    shell.revoke(&lease, &refusal.to_string());
                }
            }
            Err(error) => return broken(error.to_string()),
        }
    }
}
