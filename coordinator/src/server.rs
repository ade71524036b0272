//! The coordinator's server: the scheduler in its shell, the services, the end of the experiment.
//!
//! - `timing`: the fleet's timers
//! - `access`: who may call what
//! - `shell`: what the services and the driver share: `scheduler_handle` (the lock, with the `clock`),
//!   `connections` (the workers' streams) and `conclusion` (how the work ends)
//! - `driver`: carries the scheduler's decisions out
//! - `fleet_service`: the workers' service, with `worker_stream` and `objects`
//! - `assignment`: what a worker gets with its lease
//! - `status_service`, `snapshots`: what people watch; `store_trouble`: whether the store works
//! - `web`: the page, and what monitoring asks for; `counters`: what it counts
//! - `transaction`: writes to the store under a lease: grant, commit, completion, rollback
//! - `history`: what has become of the experiment, in memory; `recorder`: writes what is new of it
//! - `logs`: what workers have logged of their attempts
//! - `retention`: deletes checkpoints that are no longer needed
//! - `refusal`: errors as gRPC codes

mod access;
mod assignment;
mod clock;
mod conclusion;
mod connections;
mod counters;
mod driver;
mod exits;
mod fleet_service;
mod history;
mod logs;
mod objects;
mod recorder;
mod refusal;
mod retention;
mod scheduler_handle;
mod shell;
mod snapshots;
mod status_service;
mod store_trouble;
mod timing;
mod transaction;
mod web;
mod worker_stream;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::middleware::from_fn;
use futures::Stream;
use quartet_identity::Access;
use quartet_identity::session::Sessions;
use quartet_proto::v1::fleet_server::FleetServer;
use quartet_proto::v1::status_server::StatusServer;
use quartet_proto::{MAX_FRAME_SIZE, MAX_MESSAGE_SIZE};
use quartet_shared::event::Occurrence;
use quartet_shared::label::{self, MAX_REASON};
use quartet_shared::report::EvaluationReport;
use quartet_shared::shutdown::Shutdown;
use quartet_shared::state::ExperimentState;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch as watch_channel;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::experiment::{self, Experiment};
use crate::scheduler::{Config, DrainCause, RunSettings, Scheduler};
use clock::PULSE;
use fleet_service::FleetService;
use recorder::Recorder;
use shell::Shell;
use status_service::StatusService;

pub use access::Policy;
pub use exits::Exits;
pub use snapshots::Snapshots;
pub use timing::Timing;

/// Concurrent calls on one connection; a worker needs only a few.
const MAX_STREAMS: u32 = 100;
/// How long workers may take to leave after the experiment has ended.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often a coordinator that has nothing to write verifies that it is still the leader.
const LEADERSHIP_INTERVAL: Duration = Duration::from_secs(5);
/// How long the store may take to answer until people hear of it: its client tries for minutes.
const SILENCE: Duration = Duration::from_secs(5);
/// How long the services may take to answer their last calls.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// People are told of a task without progress after this fraction of the progress timeout.
const STALLS_BEFORE_TIMEOUT: u32 = 10;

/// How this process's part in an experiment ended.
#[derive(Debug)]
pub enum ExperimentEnd {
    /// The ensemble is evaluated.
    Finished(Box<EvaluationReport>),
    /// At least one task failed for good.
    Failed {
        /// What failed and why, a line each.
        reasons: Vec<String>,
        /// The evaluation of what did not fail, if there is one.
        report: Option<Box<EvaluationReport>>,
    },
    /// A signal stopped the coordinator; started again, it goes on.
    Interrupted,
}

/// Why a coordinator stops before the end.
fn why_stopped(interrupted: bool, error: Option<&anyhow::Error>) -> Option<String> {
    match (interrupted, error) {
        (_, Some(error)) => Some(label::shortened(&format!("{error:#}"), MAX_REASON)),
        (true, None) => Some("it was told to".to_owned()),
        (false, None) => None,
    }
}

/// A coordinator that is ready to serve.
pub struct Coordinator {
    shell: Arc<Shell>,
    timing: Timing,
    sessions: Option<Arc<Sessions>>,
}

impl Coordinator {
    /// Reads from the store how far the experiment is. Browsers need a session where keys are used.
    pub async fn new(
        experiment: Experiment,
        workers_expected: u32,
        timing: Timing,
        policy: Policy,
        sessions: Option<Sessions>,
    ) -> anyhow::Result<Self> {
        let spec = &experiment.spec.experiment;
        let runs = RunSettings::of(spec);
        let history = experiment::read_history(&experiment).await?;
        let config = Config {
            workers_expected,
            lease: timing.lease,
            reattach_grace: timing.reattach_grace,
            progress_timeout: timing.progress_timeout,
            stall_after: timing.progress_timeout / STALLS_BEFORE_TIMEOUT,
            ensemble: spec.ensemble,
            ..Config::default()
        };
        let scheduler = Scheduler::new(experiment.id.clone(), config, runs, history);
        let report = experiment.evaluation().await?;
        let shell = Shell::new(experiment, scheduler, policy);
        if let Some(report) = report {
            shell.conclusion.set_report(report);
        }
        Ok(Self {
            shell: Arc::new(shell),
            timing,
            sessions: sessions.map(Arc::new),
        })
    }

    /// The state as people see it, now and after every change.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots {
        Snapshots::new(Arc::clone(&self.shell))
    }

    /// Where the ends of worker processes are told that this process has started.
    #[must_use]
    pub fn exits(&self) -> Exits {
        Exits(Arc::clone(&self.shell))
    }

    /// Serves the connections of `incoming` until the experiment has ended, a shutdown is asked for, or
    /// this coordinator cannot go on.
    ///
    /// # Errors
    /// The store has failed permanently, a newer coordinator leads the experiment
    /// ([`Replaced`](crate::experiment::Replaced)), or the server fails.
    pub async fn serve<I, IO, E>(
        self,
        incoming: I,
        shutdown: Shutdown,
    ) -> anyhow::Result<ExperimentEnd>
    where
        I: Stream<Item = Result<IO, E>> + Send + 'static,
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let fleet = FleetService {
            shell: Arc::clone(&self.shell),
            timing: self.timing,
        };
        let status = StatusService {
            shell: Arc::clone(&self.shell),
            sessions: self.sessions.clone(),
        };
        let fleet = FleetServer::new(fleet).max_decoding_message_size(MAX_MESSAGE_SIZE);
        let status = StatusServer::new(status).max_decoding_message_size(MAX_MESSAGE_SIZE);
        let policy = self.shell.policy;
        let services = Routes::new(InterceptedService::new(fleet, policy.guard(Access::Work)))
            .add_service(InterceptedService::new(status, policy.guard(Access::Watch)));
        let pages = web::routes(&self.shell, self.sessions.clone());
        let services = services.into_axum_router().layer(from_fn(web::only_grpc));
        let services = Routes::from(services.merge(pages));
        let (stop, mut stopped) = watch_channel::channel(false);
        let server = Server::builder()
            // A silent connection is given up, but not before the lease has expired for the same silence.
            .http2_keepalive_interval(Some(self.timing.lease / 2))
            .http2_keepalive_timeout(Some(self.timing.lease))
            .max_concurrent_streams(MAX_STREAMS)
            .max_frame_size(MAX_FRAME_SIZE)
            // Browsers speak HTTP/1 where there is no TLS.
            .accept_http1(true)
            .add_routes(services)
            .serve_with_incoming_shutdown(incoming, async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            });
        let mut server = tokio::spawn(server);
        let recorder = Recorder::start(&self.shell);
        let interrupted = tokio::select! {
            biased;
            () = self.lead() => false,
            () = async { shutdown.triggered().await; self.drain().await } => true,
            served = &mut server => {
                served.context("the server panicked")?.context("the server failed")?;
                anyhow::bail!("the server ended by itself");
            }
        };
        let error = self.shell.conclusion.take_error();
        if let Some(reason) = why_stopped(interrupted, error.as_ref()) {
            self.shell
                .history
                .add(Occurrence::CoordinatorStopped { reason });
        }
        if !interrupted && error.is_none() {
            self.farewell().await;
        }
        self.shell.connections.close();
        if error.is_none() {
            self.close_term().await;
        }
        recorder.finish().await;
        stop.send_replace(true);
        if tokio::time::timeout(LAST_CALLS, &mut server).await.is_err() {
            server.abort();
        }
        match error {
            Some(error) => Err(error),
            None if interrupted => Ok(ExperimentEnd::Interrupted),
            None => self.result(),
        }
    }

    /// Drives the experiment to its end, or until this coordinator cannot go on or is not the leader any
    /// more.
    async fn lead(&self) {
        let watch = async {
            loop {
                tokio::time::sleep(LEADERSHIP_INTERVAL).await;
                let mut verified = pin!(self.shell.verify_leadership());
                let in_time = tokio::time::timeout(SILENCE, &mut verified).await;
                // A store that fails for a while is no reason to stop.
                if in_time.is_err() {
                    self.shell.store_is_silent(SILENCE);
                    let _ = verified.await;
                }
            }
        };
        tokio::select! {
            biased;
            () = driver::drive(&self.shell) => {}
            () = watch => {}
        }
    }

    /// Has all workers hand their tasks back and leave this coordinator.
    async fn drain(&self) {
        let mut changes = self.shell.scheduler.changes();
        self.shell.connections.stop();
        self.shell.drain_all(DrainCause::CoordinatorStops);
        self.wait_for_workers(&mut changes, self.timing.drain_grace)
            .await;
    }

    /// Tells all workers that the experiment has ended, and waits until they have gone.
    async fn farewell(&self) {
        let mut changes = self.shell.scheduler.changes();
        for worker in self.shell.connections.workers() {
            self.shell.connections.dismiss(&worker);
        }
        self.wait_for_workers(&mut changes, FAREWELL).await;
    }

    async fn wait_for_workers(&self, changes: &mut watch_channel::Receiver<u64>, limit: Duration) {
        let gone = async {
            while self.shell.connections.has_workers() {
                tokio::select! {
                    biased;
                    changed = changes.changed() => if changed.is_err() { return },
                    // The driver, which reads the clock otherwise, has ended.
                    () = tokio::time::sleep(PULSE) => self.shell.scheduler.with(|_, _| ()),
                }
            }
        };
        if tokio::time::timeout(limit, gone).await.is_err() {
            tracing::warn!("some workers did not leave in time");
        }
    }

    /// Records that no lease is held, if so, so that the next coordinator need not wait for returning
    /// workers.
    async fn close_term(&self) {
        if self
            .shell
            .scheduler
            .read(|scheduler, _| scheduler.has_leases())
        {
            return;
        }
        let closed = self.shell.experiment.close_term();
        match tokio::time::timeout(LAST_CALLS, closed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot record that this term has ended"),
            Err(_) => {
                tracing::warn!("the store is too slow to record that this term has ended")
            }
        }
    }

    fn result(&self) -> anyhow::Result<ExperimentEnd> {
        let ended = |scheduler: &Scheduler| (scheduler.experiment_state(), scheduler.failures());
        if let (ExperimentState::Failed, reasons) =
            self.shell.scheduler.read(|scheduler, _| ended(scheduler))
        {
            let report = self.shell.conclusion.report().cloned().map(Box::new);
            return Ok(ExperimentEnd::Failed { reasons, report });
        }
        let report = self
            .shell
            .conclusion
            .report()
            .context("the experiment ended without an evaluation")?;
        Ok(ExperimentEnd::Finished(Box::new(report.clone())))
    }
}
