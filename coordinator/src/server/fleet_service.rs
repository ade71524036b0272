//! The workers' gRPC service: decodes, asks the scheduler, encodes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use quartet_identity::Access;
use quartet_proto::v1::{self, coordinator_message, worker_message};
use quartet_shared::label::{self, MAX_REASON};
use quartet_shared::outcome::Outcome;
use quartet_shared::report::EvaluationReport;
use quartet_shared::task::LeaseId;
use quartet_shared::wire::required;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::connections::OUTBOX_SIZE;
use super::refusal::{bad, broke_off, missing, refused};
use super::registry::{Attaching, Choice, Registry, computes};
use super::shell::Shell;
use super::timing::Timing;
use super::transaction;
use super::worker_stream::{self, StreamEnd};
use super::{logs, objects};
use crate::scheduler::{DrainCause, Failure, Scheduler};

/// How long a new stream may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct FleetService {
    pub(super) registry: Arc<Registry>,
    pub(super) timing: Timing,
}

impl FleetService {
    fn welcome(&self, shell: &Shell) -> v1::Welcome {
        let spec = &shell.experiment.spec.experiment;
        v1::Welcome {
            experiment: spec.name.to_string(),
            term: shell.experiment.term.0,
            heartbeat_interval_ms: millis(self.timing.heartbeat_interval),
            lease_ms: millis(self.timing.lease),
            checkpoint_interval_ms: millis(self.timing.checkpoint_interval),
            precision: spec.precision.as_str().to_owned(),
            experiment_id: shell.experiment.id.to_string(),
        }
    }
}

/// Whether a worker has heard of a newer term of the experiment than this coordinator's. Terms of different
/// experiments say nothing of each other.
fn knows_newer(shell: &Shell, experiment: &str, term: u64) -> bool {
    let is_it = experiment.is_empty() || experiment == shell.experiment.id.as_str();
    is_it && term > shell.experiment.term.0
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
        let policy = self.registry.policy;
        let key = policy.check(request.extensions(), Access::Work)?;
        let key = key.map(str::to_owned);
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
        let secret = hello.secret.clone();
        let (newest, experiment) = (hello.term, hello.experiment_id.clone());
        let (info, held) = worker_stream::read_hello(hello)?;
        let (outbox, responses) = mpsc::channel(OUTBOX_SIZE);
        // The channel is new and has room.
        let first = |message| {
            let message = Some(message);
            let _ = outbox.try_send(Ok(v1::CoordinatorMessage { message }));
        };
        let attaching = Attaching {
            worker: &info.id,
            name: &info.name,
            held: held.as_ref(),
            precisions: &info.precisions,
        };
        let shell = match self.registry.choose(&attaching).await? {
            Choice::Work(shell) => shell,
            Choice::Nothing => {
                let reason = "no experiment wants this worker now".to_owned();
                first(coordinator_message::Message::Goodbye(v1::Goodbye {
                    reason,
                }));
                return Ok(Response::new(ReceiverStream::new(responses)));
            }
            Choice::SentHome => {
                let reason = "someone asked for it".to_owned();
                first(coordinator_message::Message::Drain(v1::Drain {
                    reason,
                    looks_on: false,
                }));
                return Ok(Response::new(ReceiverStream::new(responses)));
            }
        };
        if knows_newer(&shell, &experiment, newest) {
            tracing::warn!(worker = %info.id, term = newest, "the worker has seen a newer coordinator");
            shell.verify_leadership().await?;
        }
        if info.stays && held.is_none() && shell.is_over() {
            return Err(Status::unavailable("this coordinator is about to end"));
        }
        let worker = info.id.clone();
        first(coordinator_message::Message::Welcome(self.welcome(&shell)));
        if !computes(&info.precisions, shell.precision()) {
            tracing::debug!(%worker, precision = %shell.precision(), "the worker does not compute in it");
            return Ok(Response::new(ReceiverStream::new(responses)));
        }
        let (stream, joined) = {
            // Of two that attach in one name at a time, the second sees the first one's secret.
            let _one_at_a_time = shell.attaching();
            shell.verify_secret(&worker, &secret)?;
            let stream = shell.connections.attach(worker.clone(), outbox);
            tracing::info!(
                %worker,
                name = %info.name,
                device = %info.device,
                key,
                held = held.as_ref().map(tracing::field::display),
                "worker joined"
            );
            let scheduler = &shell.scheduler;
            let joined = scheduler.tell(|scheduler, now| scheduler.join(info, held.clone(), now));
            (stream, joined)
        };
        if let (Some(held), Some(refusal)) = (held, joined.refused()) {
            tracing::warn!(lease = %held, %refusal, "the worker's lease is no longer valid");
            shell.connections.revoke(&held, &refusal.to_string());
        }
        let is_sent_home = |scheduler: &Scheduler| scheduler.is_sent_home(&worker);
        if shell.scheduler.read(|scheduler, _| is_sent_home(scheduler)) {
            shell.drain(&worker, DrainCause::SentHome);
        } else if shell.connections.is_stopping() {
            shell.drain(&worker, DrainCause::CoordinatorStops);
        } else if shell.conclusion.has_ended() {
            // The others have been told already.
            shell.connections.dismiss(&worker);
        }
        tokio::spawn(async move {
            let end = tokio::select! {
                biased;
                end = worker_stream::listen(&shell, &worker, &mut messages) => end,
                () = shell.connections.closed() => StreamEnd::Closed,
            };
            tracing::info!(%worker, reason = %end, "worker's stream ended");
            shell.detach(&worker, stream, &end);
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn commit_checkpoint(
        &self,
        request: Request<Streaming<v1::CommitCheckpointRequest>>,
    ) -> Result<Response<v1::CommitCheckpointResponse>, Status> {
        // On a task of its own, so that a commit that has begun is finished even if the caller goes away.
        let commit = transaction::commit(Arc::clone(&self.registry), request.into_inner());
        tokio::spawn(commit)
            .await
            .map_err(|error| broke_off("the commit", &error))??;
        Ok(Response::new(v1::CommitCheckpointResponse {}))
    }

    async fn keep_predictions(
        &self,
        request: Request<Streaming<v1::KeepPredictionsRequest>>,
    ) -> Result<Response<v1::KeepPredictionsResponse>, Status> {
        // On a task of its own, as a commit.
        let keep = transaction::keep_predictions(Arc::clone(&self.registry), request.into_inner());
        tokio::spawn(keep)
            .await
            .map_err(|error| broke_off("keeping predictions", &error))??;
        Ok(Response::new(v1::KeepPredictionsResponse {}))
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let request = request.into_inner();
        let shell = self.registry.of_lease(request.lease.as_ref())?;
        let lease: LeaseId = required(request.lease, "lease").map_err(bad)?;
        shell.verify_secret(&lease.worker, &request.secret)?;
        let done = match request.result.ok_or_else(|| missing("result"))? {
            v1::complete_request::Result::Training(outcome) => {
                let outcome = Outcome::try_from(outcome).map_err(bad)?;
                tokio::spawn(transaction::complete_run(shell, lease, outcome))
            }
            v1::complete_request::Result::Evaluation(json) => {
                let report: EvaluationReport = serde_json::from_slice(&json).map_err(bad)?;
                tokio::spawn(transaction::complete_evaluation(shell, lease, report))
            }
        };
        done.await
            .map_err(|error| broke_off("the completion", &error))??;
        Ok(Response::new(v1::CompleteResponse {}))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let request = request.into_inner();
        let kind = request.kind();
        let reason = label::shortened(&label::one_line(&request.reason), MAX_REASON);
        let shell = self.registry.of_lease(request.lease.as_ref())?;
        let lease: LeaseId = required(request.lease, "lease").map_err(bad)?;
        shell.verify_secret(&lease.worker, &request.secret)?;
        match kind {
            v1::ReleaseKind::Unspecified => return Err(missing("kind")),
            v1::ReleaseKind::Drained => {
                tracing::info!(%lease, "task handed back");
                shell
                    .scheduler
                    .tell(|scheduler, now| scheduler.release(&lease, now))
                    .map_err(refused)?;
            }
            v1::ReleaseKind::Failed => {
                let failure = Failure {
                    reason: reason.clone(),
                    is_repeatable: request.repeatable,
                };
                let decision = shell
                    .scheduler
                    .tell(|scheduler, now| scheduler.fail(&lease, failure, now))
                    .map_err(refused)?;
                tracing::error!(%lease, %reason, "task failed; {decision}");
            }
            v1::ReleaseKind::Corrupt => {
                let object = label::shortened(&label::one_line(&request.object), MAX_REASON);
                tokio::spawn(transaction::roll_back(shell, lease, object, reason))
                    .await
                    .map_err(|error| broke_off("the rollback", &error))??;
            }
            v1::ReleaseKind::Rejected => {
                shell
                    .scheduler
                    .tell(|scheduler, now| scheduler.reject(&lease, reason.clone(), now))
                    .map_err(refused)?;
                tracing::error!(%lease, %reason, "task cannot be done");
            }
        }
        Ok(Response::new(v1::ReleaseResponse {}))
    }

    async fn keep_log(
        &self,
        request: Request<v1::KeepLogRequest>,
    ) -> Result<Response<v1::KeepLogResponse>, Status> {
        let request = request.into_inner();
        let shell = self.registry.of_lease(request.lease.as_ref())?;
        let lease: LeaseId = required(request.lease, "lease").map_err(bad)?;
        shell.verify_secret(&lease.worker, &request.secret)?;
        let turn = logs::begin(&shell, lease, request.number, &request.text).await?;
        // On a task of its own, so that what is known of the log stays what is in the store.
        tokio::spawn(async move { logs::keep(&shell, turn).await })
            .await
            .map_err(|error| broke_off("the log", &error))??;
        Ok(Response::new(v1::KeepLogResponse {}))
    }

    async fn get_object(
        &self,
        request: Request<v1::GetObjectRequest>,
    ) -> Result<Response<Self::GetObjectStream>, Status> {
        let v1::GetObjectRequest { key, offset } = request.into_inner();
        let chunks = objects::read(self.registry.of_object(&key)?, key, offset).await?;
        Ok(Response::new(Box::pin(chunks)))
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
