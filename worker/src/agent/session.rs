//! One connection to the coordinator, from hello to its end. The task at hand outlives it.

use std::path::PathBuf;
use std::time::Duration;

use quartet_proto::PROTOCOL_VERSION;
use quartet_proto::v1::fleet_client::FleetClient;
use quartet_proto::v1::{self, coordinator_message, worker_message};
use quartet_shared::ids::{Epoch, ExperimentName, WorkerId};
use quartet_shared::shutdown::Shutdown;
use quartet_shared::task::LeaseId;
use quartet_shared::wire;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use super::Settings;
use super::connection;
use super::objects::{Objects, Spool};
use super::running::{Context, Running, Stop, limited};
use crate::device::TrainingDevice;

/// How long a coordinator may take to welcome a worker.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a worker that shuts down tries to hand its task back.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The coordinator said goodbye.
    Dismissed(String),
    /// A signal came; the task was handed back.
    Drained,
    /// This worker can never work for this coordinator.
    Refused(String),
    /// The connection is gone, or was never there.
    Lost { reason: String, was_attached: bool },
}

/// What a worker keeps over its connections.
pub(super) struct Session {
    id: WorkerId,
    name: String,
    device: TrainingDevice,
    channel: Channel,
    cache_dir: PathBuf,
    spool: Spool,
    running: Option<Running>,
    experiment: Option<ExperimentName>,
}

impl Session {
    pub(super) fn new(
        id: WorkerId,
        settings: &Settings,
        device: TrainingDevice,
        spool: Spool,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            id,
            name: settings.name.clone(),
            device,
            channel: connection::channel(&settings.coordinator)?,
            cache_dir: settings.cache_dir.clone(),
            spool,
            running: None,
            experiment: None,
        })
    }

    /// Stops the task at hand without handing it back.
    pub(super) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop(Stop::Drop).await;
        }
    }

    /// Attaches and serves until the connection ends.
    pub(super) async fn connect_and_serve(&mut self, shutdown: &Shutdown) -> End {
        let (outbox, messages) = mpsc::channel(4);
        let hello = v1::Hello {
            protocol_version: PROTOCOL_VERSION,
            worker_id: self.id.to_string(),
            name: self.name.clone(),
            device: self.device.description.clone(),
            held: self
                .running
                .as_ref()
                .map(|running| running.lease().clone().into()),
            term: 0,
        };
        let hello = v1::WorkerMessage {
            message: Some(worker_message::Message::Hello(hello)),
        };
        // The channel is new and has room.
        let _ = outbox.try_send(hello);
        let mut client = FleetClient::new(self.channel.clone());
        let lost = |status: tonic::Status, was_attached| match status.code() {
            Code::FailedPrecondition | Code::InvalidArgument | Code::Unauthenticated => {
                End::Refused(status.message().to_owned())
            }
            _ => End::Lost {
                reason: root_cause(&status),
                was_attached,
            },
        };
        let attach = tokio::time::timeout(WELCOME_TIMEOUT, async {
            let mut inbox = client
                .attach(ReceiverStream::new(messages))
                .await?
                .into_inner();
            let welcome = inbox.message().await?;
            Ok::<_, tonic::Status>((inbox, welcome))
        });
        let attached = tokio::select! {
            attached = attach => attached,
            () = shutdown.triggered() => return self.drain().await,
        };
        match attached {
            Err(_) => End::Lost {
                reason: "the coordinator did not answer".into(),
                was_attached: false,
            },
            Ok(Err(status)) => lost(status, false),
            Ok(Ok((
                inbox,
                Some(v1::CoordinatorMessage {
                    message: Some(coordinator_message::Message::Welcome(welcome)),
                }),
            ))) => {
                tracing::info!(experiment = %welcome.experiment, term = welcome.term, worker = %self.id, "attached to the coordinator");
                match welcome.experiment.parse() {
                    Ok(name) => self.experiment = Some(name),
                    Err(error) => return End::Refused(format!("{error}")),
                }
                let interval =
                    Duration::from_millis(u64::from(welcome.heartbeat_interval_ms.max(10)));
                match self.serve(inbox, outbox, interval, shutdown).await {
                    Ok(end) => end,
                    Err(status) => lost(status, true),
                }
            }
            Ok(Ok(_)) => End::Refused("its first message is no welcome".into()),
        }
    }

    async fn serve(
        &mut self,
        mut inbox: Streaming<v1::CoordinatorMessage>,
        outbox: mpsc::Sender<v1::WorkerMessage>,
        interval: Duration,
        shutdown: &Shutdown,
    ) -> Result<End, tonic::Status> {
        let mut heartbeat = tokio::time::interval(interval);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                message = inbox.message() => match message? {
                    Some(v1::CoordinatorMessage { message: Some(message) }) => message,
                    _ => return Ok(End::Lost { reason: "the coordinator ended the stream".into(), was_attached: true }),
                },
                _ = heartbeat.tick() => {
                    self.heartbeat(&outbox);
                    continue;
                }
                () = Running::ended(&mut self.running) => {
                    self.running = None;
                    self.heartbeat(&outbox);
                    continue;
                }
                () = shutdown.triggered() => return Ok(self.drain().await),
            };
            match message {
                coordinator_message::Message::Assignment(assignment) => {
                    self.begin(assignment).await?;
                    self.heartbeat(&outbox);
                }
                coordinator_message::Message::Revocation(revocation) => {
                    self.revoked(revocation).await?;
                }
                coordinator_message::Message::Goodbye(goodbye) => {
                    return Ok(End::Dismissed(goodbye.reason));
                }
                coordinator_message::Message::Welcome(_)
                | coordinator_message::Message::Drain(_) => {}
            }
        }
    }

    /// Sends a heartbeat unless earlier ones still wait: then the connection is stuck, and its own timeout will end it.
    fn heartbeat(&self, outbox: &mpsc::Sender<v1::WorkerMessage>) {
        let progress = self
            .running
            .as_ref()
            .map(|running| wire::progress_message(running.lease(), &running.progress()));
        let heartbeat = worker_message::Message::Heartbeat(v1::Heartbeat { progress });
        let _ = outbox.try_send(v1::WorkerMessage {
            message: Some(heartbeat),
        });
    }

    async fn begin(&mut self, assignment: v1::Assignment) -> Result<(), tonic::Status> {
        let lease = parse_lease(assignment.lease)?;
        if self
            .running
            .as_ref()
            .is_some_and(|running| *running.lease() == lease)
        {
            return Ok(());
        }
        self.stop().await;
        let Some(experiment) = self.experiment.clone() else {
            return Err(tonic::Status::internal(
                "an assignment came before the welcome",
            ));
        };
        let context = Context {
            experiment,
            lease,
            resume: assignment.resume.map(|position| Epoch(position.epoch)),
            device: self.device.clone(),
            client: FleetClient::new(self.channel.clone()),
            objects: Objects::new(self.channel.clone(), &self.cache_dir),
            spool: self.spool.clone(),
        };
        self.running = Some(Running::start(context));
        Ok(())
    }

    async fn revoked(&mut self, revocation: v1::Revocation) -> Result<(), tonic::Status> {
        let lease = parse_lease(revocation.lease)?;
        if self
            .running
            .as_ref()
            .is_some_and(|running| *running.lease() == lease)
        {
            tracing::warn!(%lease, reason = %revocation.reason, "lease revoked; the task is dropped");
            self.stop().await;
        }
        Ok(())
    }

    /// Hands the task back and ends.
    async fn drain(&mut self) -> End {
        if let Some(running) = self.running.take() {
            let lease = running.lease().clone();
            running.stop(Stop::Drain).await;
            if let Err(status) = release(self.channel.clone(), &lease).await {
                tracing::warn!(%lease, reason = %root_cause(&status), "could not hand the task back; its lease will expire");
            }
        }
        End::Drained
    }
}

async fn release(channel: Channel, lease: &LeaseId) -> Result<(), tonic::Status> {
    let request = v1::ReleaseRequest {
        lease: Some(lease.clone().into()),
        kind: v1::ReleaseKind::Drained.into(),
        reason: "the worker is shutting down".into(),
        object: String::new(),
    };
    let mut client = FleetClient::new(channel);
    match tokio::time::timeout(
        RELEASE_TIMEOUT,
        client.release(limited(request, RELEASE_TIMEOUT)),
    )
    .await
    {
        Ok(released) => released.map(|_| ()),
        Err(_) => Err(tonic::Status::deadline_exceeded(
            "the coordinator did not answer",
        )),
    }
}

fn parse_lease(lease: Option<v1::Lease>) -> Result<LeaseId, tonic::Status> {
    lease
        .ok_or_else(|| tonic::Status::internal("the coordinator's message names no lease"))?
        .try_into()
        .map_err(|e| tonic::Status::internal(format!("the coordinator's message is bad: {e}")))
}

/// What lies at the bottom of a status: "connection refused" rather than "transport error".
pub(super) fn root_cause(status: &tonic::Status) -> String {
    let mut error: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut cause = status.message().to_owned();
    while let Some(inner) = error {
        cause = inner.to_string();
        error = inner.source();
    }
    cause
}
