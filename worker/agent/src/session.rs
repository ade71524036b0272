//! One connection to the coordinator, from hello to its end. The current task outlives it.

mod greeting;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quartet_proto::v1::{self, coordinator_message, worker_message};
use quartet_shared::assignment::Assignment;
use quartet_shared::human;
use quartet_shared::ids::{ExperimentId, WorkerId};
use quartet_shared::secret::Secret;
use quartet_shared::shutdown::Shutdown;
use quartet_shared::task::LeaseId;
use quartet_shared::telemetry::LogTap;
use quartet_shared::wire;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::calls::{Calls, limited, root_cause};
use super::context::Context;
use super::coordinators::Coordinators;
use super::current_task::{CurrentTask, Event};
use super::log::TaskLog;
use super::objects::Objects;
use super::parting::{Destination, Parted};
use super::random::Random;
use super::running::LeaseStatus;
use super::session_error::SessionError;
use super::spool::Spool;
use super::{Departure, Settings};
use crate::executor::{Executor, TaskControl};

/// How long a coordinator may take to welcome a worker.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a worker that shuts down tries to hand its task back once its state is committed.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a coordinator may take to end a stream that the worker has closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// What a worker keeps over its connections.
pub(super) struct Session {
    id: WorkerId,
    secret: Secret,
    name: String,
    executor: Arc<dyn Executor>,
    random: Random,
    pub(super) coordinators: Coordinators,
    cache_dir: PathBuf,
    spool: Spool,
    log: Option<LogTap>,
    /// Whether it looks for the next coordinator once the current one needs it no longer.
    stays: bool,
    task: CurrentTask,
    checkpoint_interval: Option<Duration>,
    /// The experiment that the worker was welcomed to.
    experiment: Option<ExperimentId>,
    /// The newest term of a coordinator of it that the worker has heard of.
    term: u64,
}

impl Session {
    pub(super) fn new(
        id: WorkerId,
        settings: &Settings,
        executor: Arc<dyn Executor>,
        random: Random,
        spool: Spool,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            id,
            secret: settings.secret.clone(),
            name: settings.name.clone(),
            executor,
            random,
            coordinators: Coordinators::new(&settings.coordinators, settings.connector.clone())?,
            cache_dir: settings.cache_dir.clone(),
            spool,
            log: settings.log.clone(),
            stays: settings.stay,
            task: CurrentTask::none(settings.drain_grace),
            checkpoint_interval: None,
            experiment: None,
            term: 0,
        })
    }

    /// Stops the current task without handing it back.
    pub(super) async fn stop(&mut self) {
        self.task.stop().await;
    }

    /// Attaches and serves until the connection ends.
    pub(super) async fn connect_and_serve(
        &mut self,
        shutdown: &Shutdown,
    ) -> Result<Parted, SessionError> {
        let (outbox, messages) = mpsc::channel(4);
        // The channel is new and has room.
        let _ = outbox.try_send(self.hello());
        let mut client = self.coordinators.client();
        let attach = tokio::time::timeout(WELCOME_TIMEOUT, async move {
            let mut inbox = client
                .attach(ReceiverStream::new(messages))
                .await?
                .into_inner();
            let welcome = inbox.message().await?;
            Ok::<_, Status>((inbox, welcome))
        });
        tokio::pin!(attach);
        let attached = loop {
            tokio::select! {
                biased;
                attached = &mut attach => break attached,
                event = self.task.event(shutdown) => if let Some(ended) = self.handle(event).await? {
                    return Ok(ended);
                },
            }
        };
        let (inbox, welcome) = match attached {
            Err(_) => return Err(SessionError::lost("the coordinator did not answer", false)),
            Ok(Err(status)) => return Err(SessionError::from_status(&status, false)),
            Ok(Ok((
                inbox,
                Some(v1::CoordinatorMessage {
                    message: Some(coordinator_message::Message::Welcome(welcome)),
                }),
            ))) => (inbox, welcome),
            Ok(Ok((
                _,
                Some(v1::CoordinatorMessage {
                    message: Some(coordinator_message::Message::Goodbye(goodbye)),
                }),
            ))) => return Err(SessionError::NoExperiment(goodbye.reason)),
            // It waits for an experiment, and is to exit.
            Ok(Ok((
                _,
                Some(v1::CoordinatorMessage {
                    message: Some(coordinator_message::Message::Drain(_)),
                }),
            ))) => return Ok(parted(Destination::Exit)),
            Ok(Ok(_)) => {
                let reason = "its first message is no welcome";
                return Err(SessionError::Refused(reason.into()));
            }
        };
        let heartbeats = Duration::from_millis(u64::from(welcome.heartbeat_interval_ms.max(10)));
        self.welcomed(welcome)?;
        self.serve(inbox, outbox, heartbeats, shutdown).await
    }

    /// Waits between two connections. Returns how the worker parts from its coordinator meanwhile, if it
    /// does.
    pub(super) async fn pause(
        &mut self,
        pause: Duration,
        shutdown: &Shutdown,
    ) -> Result<Option<Parted>, SessionError> {
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                () = &mut over => return Ok(None),
                event = self.task.event(shutdown) => {
                    let ended = self.handle(event).await?;
                    if ended.is_some() {
                        return Ok(ended);
                    }
                }
            }
        }
    }

    /// Does what an event asks for. Returns how the worker parts from its coordinator by it, if it does.
    async fn handle(&mut self, event: Event) -> Result<Option<Parted>, SessionError> {
        match event {
            Event::Leave => Ok(self.leave(Destination::Exit)),
            Event::TaskEnded(lease) => Ok(self.task_ended(lease).await),
            Event::Overdue => {
                if self.task.drop_state() {
                    tracing::warn!(
                        "the task's state could not be handed over in time; it is dropped"
                    );
                    return Ok(None);
                }
                let waited = human::duration(self.task.grace());
                Err(SessionError::Stuck(format!(
                    "the task did not come to its end within {waited}; its lease will expire"
                )))
            }
        }
    }

    /// Begins to leave the coordinator: the task hands over its state and ends. Without a task this is the
    /// end.
    fn leave(&mut self, destination: Destination) -> Option<Parted> {
        (!self.task.leave(destination)).then(|| parted(destination))
    }

    async fn task_ended(&mut self, status: LeaseStatus) -> Option<Parted> {
        let (lease, destination) = self.task.forget()?;
        if status == LeaseStatus::Held
            && let Err(status) = self.hand_back(&lease).await
        {
            let reason = root_cause(&status);
            tracing::warn!(%lease, %reason, "could not hand the task back; its lease will expire");
        }
        Some(parted(destination))
    }

    /// Serves until the connection ends.
    async fn serve(
        &mut self,
        mut inbox: Streaming<v1::CoordinatorMessage>,
        outbox: mpsc::Sender<v1::WorkerMessage>,
        interval: Duration,
        shutdown: &Shutdown,
    ) -> Result<Parted, SessionError> {
        let ended = self.exchange(&mut inbox, &outbox, interval, shutdown).await;
        if ended.is_ok() {
            // The coordinator is to see the end of the stream, before the process may exit: else it would see
            // a broken connection, and take the worker for lost.
            drop(outbox);
            let closed = async { while let Ok(Some(_)) = inbox.message().await {} };
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, closed).await;
        }
        ended
    }

    async fn exchange(
        &mut self,
        inbox: &mut Streaming<v1::CoordinatorMessage>,
        outbox: &mpsc::Sender<v1::WorkerMessage>,
        interval: Duration,
        shutdown: &Shutdown,
    ) -> Result<Parted, SessionError> {
        let failed = |status| SessionError::from_status(&status, true);
        let mut heartbeat = tokio::time::interval(interval);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                biased;
                message = inbox.message() => match message.map_err(failed)? {
                    Some(v1::CoordinatorMessage { message: Some(message) }) => message,
                    _ => return Err(SessionError::lost("the coordinator ended the stream", true)),
                },
                _ = heartbeat.tick() => {
                    self.heartbeat(outbox);
                    continue;
                }
                event = self.task.event(shutdown) => {
                    if let Some(ended) = self.handle(event).await? {
                        return Ok(ended);
                    }
                    self.heartbeat(outbox);
                    continue;
                }
            };
            match message {
                coordinator_message::Message::Assignment(assignment) => {
                    self.begin(assignment).await.map_err(failed)?;
                    self.heartbeat(outbox);
                }
                coordinator_message::Message::Revocation(v1::Revocation { lease, reason }) => {
                    let lease = parse_lease(lease).map_err(failed)?;
                    self.task.revoke(&lease, &reason);
                }
                coordinator_message::Message::Goodbye(goodbye) => {
                    return Ok(match self.stays {
                        true => Parted::Stays(goodbye.reason),
                        false => Parted::Left(Departure::Dismissed(goodbye.reason)),
                    });
                }
                coordinator_message::Message::Drain(drain) => {
                    tracing::info!(reason = %drain.reason, "asked to leave");
                    let destination = match drain.looks_on && self.stays {
                        true => Destination::NextCoordinator,
                        false => Destination::Exit,
                    };
                    if let Some(ended) = self.leave(destination) {
                        return Ok(ended);
                    }
                }
                coordinator_message::Message::Welcome(_) => {}
            }
        }
    }

    /// Sends a heartbeat unless earlier ones still wait: then the connection is stuck, and its own timeout
    /// ends it. A worker whose task has lost its lease and has not ended yet says nothing: it is neither at
    /// work nor free.
    fn heartbeat(&self, outbox: &mpsc::Sender<v1::WorkerMessage>) {
        let held = self.task.held();
        if held.is_none() && !self.task.is_none() {
            return;
        }
        let progress = held.map(|task| wire::progress_message(task.lease(), &task.progress()));
        let gpu = self.executor.gpu().map(Into::into);
        let heartbeat = worker_message::Message::Heartbeat(v1::Heartbeat { progress, gpu });
        let _ = outbox.try_send(v1::WorkerMessage {
            message: Some(heartbeat),
        });
    }

    async fn begin(&mut self, assignment: v1::Assignment) -> Result<(), Status> {
        let lease = parse_lease(assignment.lease.clone())?;
        if self.task.has(&lease) {
            return Ok(());
        }
        if self.task.leaves() {
            // It came while the worker began to leave.
            return self.hand_back(&lease).await;
        }
        let assignment = match Assignment::try_from(assignment) {
            Ok(assignment) => assignment,
            Err(error) => {
                let reason = format!("the assignment cannot be read: {error}");
                tracing::error!(%lease, %reason, "task failed");
                return self.release(&lease, v1::ReleaseKind::Failed, reason).await;
            }
        };
        let control = Arc::new(TaskControl::new());
        let random = self.random.clone();
        let calls = Calls::new(
            self.coordinators.clone(),
            self.secret.clone(),
            random.clone(),
            Arc::clone(&control),
        );
        let context = Context {
            assignment,
            checkpoint_interval: self.checkpoint_interval,
            executor: Arc::clone(&self.executor),
            control,
            objects: Objects::new(calls.clone(), &self.cache_dir, random),
            calls,
            spool: self.spool.clone(),
            log: self.log.clone().map(TaskLog::new),
        };
        self.task.start(context).await;
        Ok(())
    }

    async fn hand_back(&self, lease: &LeaseId) -> Result<(), Status> {
        let reason = "the worker is shutting down".to_owned();
        self.release(lease, v1::ReleaseKind::Drained, reason).await
    }

    async fn release(
        &self,
        lease: &LeaseId,
        kind: v1::ReleaseKind,
        reason: String,
    ) -> Result<(), Status> {
        let request = v1::ReleaseRequest {
            lease: Some(lease.clone().into()),
            kind: kind.into(),
            reason,
            object: String::new(),
            secret: self.secret.bytes().into(),
            repeatable: false,
        };
        let mut client = self.coordinators.client();
        let released = client.release(limited(request, RELEASE_TIMEOUT));
        match tokio::time::timeout(RELEASE_TIMEOUT, released).await {
            Ok(released) => released.map(|_| ()),
            Err(_) => Err(Status::deadline_exceeded("the coordinator did not answer")),
        }
    }
}

/// How a worker has parted that handed its task back, or had none.
fn parted(destination: Destination) -> Parted {
    match destination {
        Destination::NextCoordinator => Parted::Stays("its coordinator asked for it".to_owned()),
        Destination::Exit => Parted::Left(Departure::Drained),
    }
}

fn parse_lease(lease: Option<v1::Lease>) -> Result<LeaseId, Status> {
    lease
        .ok_or_else(|| Status::internal("the coordinator's message names no lease"))?
        .try_into()
        .map_err(|e| Status::internal(format!("the coordinator's message is bad: {e}")))
}
