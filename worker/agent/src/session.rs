//! One connection to the coordinator, from hello to its end. The task at hand outlives it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quartet_proto::PROTOCOL_VERSION;
use quartet_proto::v1::{self, coordinator_message, worker_message};
use quartet_shared::human;
use quartet_shared::ids::{ExperimentName, WorkerId};
use quartet_shared::position::Position;
use quartet_shared::shutdown::Shutdown;
use quartet_shared::spec::Precision;
use quartet_shared::task::LeaseId;
use quartet_shared::wire;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::Settings;
use super::coordinators::Coordinators;
use super::objects::{Objects, Spool};
use super::random::Random;
use super::running::{Context, Lease, Running, limited};
use crate::executor::{Executor, Stop, UnsupportedPrecision};

/// How long a coordinator may take to welcome a worker.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a worker that shuts down tries to hand its task back once its state is committed.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The coordinator said goodbye.
    Dismissed(String),
    /// It was asked to leave, and handed its task back.
    Drained,
    /// This worker can never work for this coordinator.
    Refused(String),
    /// It does not compute what the experiment needs.
    Unsuited(UnsupportedPrecision),
    /// The task does not stop, or could not be handed back.
    Stuck(String),
    /// The connection is gone, or was never there.
    Lost { reason: String, was_attached: bool },
}

/// Until when the task at hand has to end.
#[derive(Clone, Copy, Debug)]
struct Ending {
    deadline: Instant,
    /// Whether the worker leaves then. Otherwise it has lost its lease, and says nothing until the task has ended.
    leave: bool,
}

/// What happens whether there is a connection or not.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The worker is asked to leave.
    Leave,
    /// The task at hand has ended, and this is what has become of its lease.
    TaskEnded(Lease),
    /// It should have.
    Overdue,
}

/// What a worker keeps over its connections.
pub(super) struct Session {
    id: WorkerId,
    name: String,
    executor: Arc<dyn Executor>,
    random: Random,
    pub(super) coordinators: Coordinators,
    cache_dir: PathBuf,
    spool: Spool,
    drain_grace: Duration,
    running: Option<Running>,
    ending: Option<Ending>,
    experiment: Option<ExperimentName>,
    checkpoint_interval: Option<Duration>,
    /// The newest coordinator's that was heard of.
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
            name: settings.name.clone(),
            executor,
            random,
            coordinators: Coordinators::new(&settings.coordinators, settings.connector.clone())?,
            cache_dir: settings.cache_dir.clone(),
            spool,
            drain_grace: settings.drain_grace,
            running: None,
            ending: None,
            experiment: None,
            checkpoint_interval: None,
            term: 0,
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
                event = self.event(shutdown) => if let Some(end) = self.handle(event).await {
                    return end;
                },
            }
        };
        let (inbox, welcome) = match attached {
            Err(_) => return lost("the coordinator did not answer", false),
            Ok(Err(status)) => return ended(&status, false),
            Ok(Ok((
                inbox,
                Some(v1::CoordinatorMessage {
                    message: Some(coordinator_message::Message::Welcome(welcome)),
                }),
            ))) => (inbox, welcome),
            Ok(Ok(_)) => return End::Refused("its first message is no welcome".into()),
        };
        let heartbeats = Duration::from_millis(u64::from(welcome.heartbeat_interval_ms.max(10)));
        if let Err(end) = self.welcomed(welcome) {
            return end;
        }
        match self.serve(inbox, outbox, heartbeats, shutdown).await {
            Ok(end) => end,
            Err(status) => ended(&status, true),
        }
    }

    fn hello(&self) -> v1::WorkerMessage {
        let hello = v1::Hello {
            protocol_version: PROTOCOL_VERSION,
            worker_id: self.id.to_string(),
            name: self.name.clone(),
            device: self.executor.description(),
            held: self.held().map(|running| running.lease().clone().into()),
            term: self.term,
        };
        v1::WorkerMessage {
            message: Some(worker_message::Message::Hello(hello)),
        }
    }

    /// The task at hand, unless its lease is lost.
    fn held(&self) -> Option<&Running> {
        let lost = self.ending.is_some_and(|ending| !ending.leave);
        self.running.as_ref().filter(|_| !lost)
    }

    fn welcomed(&mut self, welcome: v1::Welcome) -> Result<(), End> {
        let v1::Welcome {
            experiment,
            term,
            precision,
            ..
        } = welcome;
        if term < self.term {
            let newer = self.term;
            return Err(lost(
                format!("its term is {term}, and there is a coordinator of term {newer}"),
                false,
            ));
        }
        self.term = term;
        tracing::info!(experiment, term, worker = %self.id, "attached to the coordinator");
        match experiment.parse() {
            Ok(name) => self.experiment = Some(name),
            Err(error) => return Err(End::Refused(format!("{error}"))),
        }
        let precision: Precision = match precision.parse() {
            Ok(precision) => precision,
            Err(error) => return Err(End::Refused(format!("its precision: {error}"))),
        };
        self.executor
            .check_precision(precision)
            .map_err(End::Unsuited)?;
        let every = Duration::from_millis(welcome.checkpoint_interval_ms.into());
        self.checkpoint_interval = (!every.is_zero()).then_some(every);
        Ok(())
    }

    /// Waits between two connections; how the worker ends meanwhile, if it does.
    pub(super) async fn pause(&mut self, pause: Duration, shutdown: &Shutdown) -> Option<End> {
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                () = &mut over => return None,
                event = self.event(shutdown) => {
                    let end = self.handle(event).await;
                    if end.is_some() {
                        return end;
                    }
                }
            }
        }
    }

    /// The next thing that happens whether there is a connection or not. Nothing is lost when this is dropped.
    async fn event(&mut self, shutdown: &Shutdown) -> Event {
        let deadline = self.ending.map(|ending| ending.deadline);
        let overdue = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let leaves = self.ending.is_some_and(|ending| ending.leave);
        tokio::select! {
            biased;
            () = shutdown.triggered(), if !leaves => Event::Leave,
            lease = Running::ended(&mut self.running) => Event::TaskEnded(lease),
            () = overdue => Event::Overdue,
        }
    }

    /// Does what an event asks for; how the worker ends by it, if it does.
    async fn handle(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Leave => self.leave(),
            Event::TaskEnded(lease) => self.task_ended(lease).await,
            Event::Overdue => {
                let waited = human::duration(self.drain_grace);
                Some(End::Stuck(format!(
                    "the task did not come to its end within {waited}; its lease will expire"
                )))
            }
        }
    }

    /// Begins to leave: the task hands over its state and ends. Without a task this is the end.
    fn leave(&mut self) -> Option<End> {
        let Some(running) = &self.running else {
            return Some(End::Drained);
        };
        let deadline = Instant::now() + self.drain_grace;
        match &mut self.ending {
            Some(ending) => ending.leave = true,
            None => {
                running.request_stop(Stop::Drain);
                self.ending = Some(Ending {
                    deadline,
                    leave: true,
                });
            }
        }
        None
    }

    async fn task_ended(&mut self, lease: Lease) -> Option<End> {
        let id = self.running.take().map(|running| running.lease().clone());
        let leaves = self.ending.take().is_some_and(|ending| ending.leave);
        if !leaves {
            return None;
        }
        if let (Some(id), Lease::Held) = (id, lease)
            && let Err(status) = self.release(&id).await
        {
            tracing::warn!(lease = %id, reason = %root_cause(&status), "could not hand the task back; its lease will expire");
        }
        Some(End::Drained)
    }

    async fn serve(
        &mut self,
        mut inbox: Streaming<v1::CoordinatorMessage>,
        outbox: mpsc::Sender<v1::WorkerMessage>,
        interval: Duration,
        shutdown: &Shutdown,
    ) -> Result<End, Status> {
        let mut heartbeat = tokio::time::interval(interval);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                biased;
                message = inbox.message() => match message? {
                    Some(v1::CoordinatorMessage { message: Some(message) }) => message,
                    _ => return Ok(lost("the coordinator ended the stream", true)),
                },
                _ = heartbeat.tick() => {
                    self.heartbeat(&outbox);
                    continue;
                }
                event = self.event(shutdown) => {
                    if let Some(end) = self.handle(event).await {
                        return Ok(end);
                    }
                    self.heartbeat(&outbox);
                    continue;
                }
            };
            match message {
                coordinator_message::Message::Assignment(assignment) => {
                    self.begin(assignment).await?;
                    self.heartbeat(&outbox);
                }
                coordinator_message::Message::Revocation(revocation) => self.revoked(revocation)?,
                coordinator_message::Message::Goodbye(goodbye) => {
                    return Ok(End::Dismissed(goodbye.reason));
                }
                coordinator_message::Message::Drain(drain) => {
                    tracing::info!(reason = %drain.reason, "asked to leave");
                    if let Some(end) = self.leave() {
                        return Ok(end);
                    }
                }
                coordinator_message::Message::Welcome(_) => {}
            }
        }
    }

    /// Sends a heartbeat unless earlier ones still wait: then the connection is stuck, and its own timeout will end it. A worker
    /// whose task has lost its lease and has not ended yet says nothing: it is neither at work nor free.
    fn heartbeat(&self, outbox: &mpsc::Sender<v1::WorkerMessage>) {
        let progress = self
            .held()
            .map(|running| wire::progress_message(running.lease(), &running.progress()));
        if progress.is_none() && self.running.is_some() {
            return;
        }
        let heartbeat = worker_message::Message::Heartbeat(v1::Heartbeat { progress });
        let _ = outbox.try_send(v1::WorkerMessage {
            message: Some(heartbeat),
        });
    }

    async fn begin(&mut self, assignment: v1::Assignment) -> Result<(), Status> {
        let lease = parse_lease(assignment.lease)?;
        if self
            .running
            .as_ref()
            .is_some_and(|running| *running.lease() == lease)
        {
            return Ok(());
        }
        if self.ending.is_some_and(|ending| ending.leave) {
            // It came while the worker began to leave.
            return self.release(&lease).await;
        }
        self.stop().await;
        self.ending = None;
        let Some(experiment) = self.experiment.clone() else {
            return Err(Status::internal("an assignment came before the welcome"));
        };
        let objects = Objects::new(
            self.coordinators.clone(),
            &self.cache_dir,
            self.random.clone(),
        );
        let context = Context {
            experiment,
            lease,
            resume: assignment.resume.map(Position::from),
            checkpoint_interval: self.checkpoint_interval,
            executor: Arc::clone(&self.executor),
            random: self.random.clone(),
            coordinators: self.coordinators.clone(),
            objects,
            spool: self.spool.clone(),
        };
        self.running = Some(Running::start(context));
        Ok(())
    }

    /// The task ends at the end of its step, and nothing of it is sent any more.
    fn revoked(&mut self, revocation: v1::Revocation) -> Result<(), Status> {
        let lease = parse_lease(revocation.lease)?;
        if let Some(running) = &self.running
            && *running.lease() == lease
            && self.held().is_some()
        {
            tracing::warn!(%lease, reason = %revocation.reason, "lease revoked; the task is dropped");
            running.request_stop(Stop::Drop);
            let leave = self.ending.is_some_and(|ending| ending.leave);
            self.ending = Some(Ending {
                deadline: Instant::now() + self.drain_grace,
                leave,
            });
        }
        Ok(())
    }

    async fn release(&self, lease: &LeaseId) -> Result<(), Status> {
        let request = v1::ReleaseRequest {
            lease: Some(lease.clone().into()),
            kind: v1::ReleaseKind::Drained.into(),
            reason: "the worker is shutting down".into(),
            object: String::new(),
        };
        let mut client = self.coordinators.client();
        let released = client.release(limited(request, RELEASE_TIMEOUT));
        match tokio::time::timeout(RELEASE_TIMEOUT, released).await {
            Ok(released) => released.map(|_| ()),
            Err(_) => Err(Status::deadline_exceeded("the coordinator did not answer")),
        }
    }
}

fn lost(reason: impl Into<String>, was_attached: bool) -> End {
    End::Lost {
        reason: reason.into(),
        was_attached,
    }
}

fn ended(status: &Status, was_attached: bool) -> End {
    match status.code() {
        Code::FailedPrecondition | Code::InvalidArgument | Code::Unauthenticated => {
            End::Refused(status.message().to_owned())
        }
        _ => lost(root_cause(status), was_attached),
    }
}

fn parse_lease(lease: Option<v1::Lease>) -> Result<LeaseId, Status> {
    lease
        .ok_or_else(|| Status::internal("the coordinator's message names no lease"))?
        .try_into()
        .map_err(|e| Status::internal(format!("the coordinator's message is bad: {e}")))
}

/// What lies at the bottom of a status: "connection refused" rather than "transport error".
pub(super) fn root_cause(status: &Status) -> String {
    let mut error: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut cause = status.message().to_owned();
    while let Some(inner) = error {
        cause = inner.to_string();
        error = inner.source();
    }
    cause
}
