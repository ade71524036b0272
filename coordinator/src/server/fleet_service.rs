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
use super::shell::Shell;
use super::timing::Timing;
use super::transaction;
use super::worker_stream::{self, StreamEnd};
use super::{logs, objects};
use crate::scheduler::{DrainCause, Failure, Scheduler};

/// How long a new stream may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct FleetService {
    pub(super) shell: Arc<Shell>,
    pub(super) timing: Timing,
}

impl FleetService {
    /// The newest term of this experiment that a worker says it has heard of.
    fn newest_term(&self, hello: &v1::Hello) -> u64 {
        let other = !hello.experiment_id.is_empty()
            && hello.experiment_id != self.shell.experiment.id.as_str();
        // Terms of different experiments say nothing of each other.
        if other { 0 } else { hello.term }
    }
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
        let key = self
            .shell
            .policy
            .check(request.extensions(), Access::Work)?;
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
        let newest = self.newest_term(&hello);
        let secret = hello.secret.clone();
        let precisions = hello.precisions.clone();
        let (info, held) = worker_stream::read_hello(hello)?;
        if newest > self.shell.experiment.term.0 {
            tracing::warn!(worker = %info.id, term = newest, "the worker has seen a newer coordinator");
            self.shell.verify_leadership().await?;
        }
        if info.stays && held.is_none() && self.shell.is_over() {
            return Err(Status::unavailable("this coordinator is about to end"));
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
            experiment_id: self.shell.experiment.id.to_string(),
        };
        let welcome = v1::CoordinatorMessage {
            message: Some(coordinator_message::Message::Welcome(welcome)),
        };
        // The channel is new and has room.
        let _ = outbox.try_send(Ok(welcome));
        if !worker_stream::computes_in(&precisions, spec.precision) {
            tracing::debug!(%worker, precision = %spec.precision, "the worker does not compute in it");
            return Ok(Response::new(ReceiverStream::new(responses)));
        }
        let (stream, joined) = {
            // Of two that attach in one name at a time, the second sees the first one's secret.
            let _one_at_a_time = self.shell.attaching();
            self.shell.verify_secret(&worker, &secret)?;
            let stream = self.shell.connections.attach(worker.clone(), outbox);
            tracing::info!(
                %worker,
                name = %info.name,
                device = %info.device,
                key,
                held = held.as_ref().map(tracing::field::display),
                "worker joined"
            );
            let scheduler = &self.shell.scheduler;
            let joined = scheduler.tell(|scheduler, now| scheduler.join(info, held.clone(), now));
            (stream, joined)
        };
        if let (Some(held), Some(refusal)) = (held, joined.refused()) {
            tracing::warn!(lease = %held, %refusal, "the worker's lease is no longer valid");
            self.shell.connections.revoke(&held, &refusal.to_string());
        }
        let is_sent_home = |scheduler: &Scheduler| scheduler.is_sent_home(&worker);
        if self
            .shell
            .scheduler
            .read(|scheduler, _| is_sent_home(scheduler))
        {
            self.shell.drain(&worker, DrainCause::SentHome);
        } else if self.shell.connections.is_stopping() {
            self.shell.drain(&worker, DrainCause::CoordinatorStops);
        } else if self.shell.conclusion.has_ended() {
            // The others have been told already.
            self.shell.connections.dismiss(&worker);
        }
        let shell = Arc::clone(&self.shell);
        tokio::spawn(async move {
            let end = tokio::select! {
                biased;
                end = worker_stream::listen(&shell, &worker, &mut messages) => end,
                () = shell.connections.closed() => StreamEnd::Broken("the coordinator has ended".to_owned()),
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
        // On a task of its own, so that a commit that has begun is finished even if the caller goes away.
        let commit = transaction::commit(Arc::clone(&self.shell), request.into_inner());
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
        let keep = transaction::keep_predictions(Arc::clone(&self.shell), request.into_inner());
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
        let lease: LeaseId = required(request.lease, "lease").map_err(bad)?;
        self.shell.verify_secret(&lease.worker, &request.secret)?;
        let shell = Arc::clone(&self.shell);
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
        let lease: LeaseId = required(request.lease, "lease").map_err(bad)?;
        self.shell.verify_secret(&lease.worker, &request.secret)?;
        match kind {
            v1::ReleaseKind::Unspecified => return Err(missing("kind")),
            v1::ReleaseKind::Drained => {
                tracing::info!(%lease, "task handed back");
                self.shell
                    .scheduler
                    .tell(|scheduler, now| scheduler.release(&lease, now))
                    .map_err(refused)?;
            }
            v1::ReleaseKind::Failed => {
                let failure = Failure {
                    reason: reason.clone(),
                    is_repeatable: request.repeatable,
                };
                let decision = self
                    .shell
                    .scheduler
                    .tell(|scheduler, now| scheduler.fail(&lease, failure, now))
                    .map_err(refused)?;
                tracing::error!(%lease, %reason, "task failed; {decision}");
            }
            v1::ReleaseKind::Corrupt => {
                let shell = Arc::clone(&self.shell);
                let object = label::shortened(&label::one_line(&request.object), MAX_REASON);
                tokio::spawn(transaction::roll_back(shell, lease, object, reason))
                    .await
                    .map_err(|error| broke_off("the rollback", &error))??;
            }
            v1::ReleaseKind::Rejected => {
                self.shell
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
        let lease: LeaseId = required(request.lease, "lease").map_err(bad)?;
        self.shell.verify_secret(&lease.worker, &request.secret)?;
        let turn = logs::begin(&self.shell, lease, request.number, &request.text).await?;
        // On a task of its own, so that what is known of the log stays what is in the store.
        let shell = Arc::clone(&self.shell);
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
        let chunks = objects::read(Arc::clone(&self.shell), key, offset).await?;
        Ok(Response::new(Box::pin(chunks)))
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
