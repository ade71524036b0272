//! The coordinator's server: the scheduler in its shell, the services, the end of the experiment.
//!
//! - `shell`: clock, lock, outboxes, and the driver that carries decisions out
//! - `fleet`: the workers' service
//! - `grant`, `commit`, `finish`, `rewind`: transactions with the store
//! - `catch_up`: what an older coordinator committed late
//! - `retention`: deletes checkpoints that are no longer needed
//! - `watch`: the status service
//! - `refusal`: errors as gRPC codes

mod catch_up;
mod commit;
mod finish;
mod fleet;
mod grant;
mod refusal;
mod retention;
mod rewind;
mod shell;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::Stream;
use quartet_proto::MAX_FRAME_SIZE;
use quartet_proto::v1::fleet_server::FleetServer;
use quartet_proto::v1::status_server::StatusServer;
use quartet_shared::report::EvaluationReport;
use quartet_shared::shutdown::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch as watch_channel;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::experiment::{self, Experiment};
use crate::scheduler::{Config, ExperimentState, RunPlan, Scheduler};
use fleet::FleetService;
use quartet_status::snapshot::Snapshot;
use shell::Shell;
use watch::StatusService;

/// Calls at once on one connection; a worker has no more than a few.
const MAX_STREAMS: u32 = 100;
/// How long workers may take to leave at the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often a coordinator that has nothing to write looks whether a newer one has claimed its experiment.
const RULE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the services may take to answer their last calls.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// People are told of a task that has stood still for so much of the progress timeout.
const STALLS_BEFORE_TIMEOUT: u32 = 10;

/// The fleet's timers.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How often workers send heartbeats.
    pub heartbeat_interval: Duration,
    /// How long a lease lasts without one.
    pub lease: Duration,
    /// How long a run waits for a worker whose connection has ended, although a spare stands by.
    pub reattach_grace: Duration,
    /// How long a live worker's task may go without progress before it is given to another.
    pub progress_timeout: Duration,
    /// How often workers commit the state within an epoch; zero for never.
    pub checkpoint_interval: Duration,
    /// How long workers may take to hand their tasks back when this coordinator is told to stop.
    pub drain_grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(1),
            lease: Duration::from_secs(15),
            reattach_grace: Duration::from_millis(500),
            progress_timeout: Duration::from_secs(1800),
            checkpoint_interval: Duration::from_secs(600),
            drain_grace: Duration::from_secs(30),
        }
    }
}

/// How an experiment ended for this process.
#[derive(Debug)]
pub enum Ended {
    /// The ensemble is evaluated.
    Finished(Box<EvaluationReport>),
    /// At least one task failed for good: what failed and why.
    Failed(Vec<String>),
    /// A signal stopped the coordinator; started again, it goes on.
    Interrupted,
}

/// A coordinator that is ready to serve.
pub struct Coordinator {
    shell: Arc<Shell>,
    timing: Timing,
}

impl Coordinator {
    /// Reads from the store how far the experiment is.
    pub async fn new(
        experiment: Experiment,
        workers_expected: u32,
        timing: Timing,
    ) -> anyhow::Result<Self> {
        let spec = &experiment.spec.experiment;
        let plans = spec.runs.iter().map(|run| RunPlan {
            name: run.name.clone(),
            backbone: run.backbone,
            epochs: spec.epochs,
            patience: spec.patience,
            cost: run.relative_cost(),
        });
        let history = experiment::read_history(&experiment).await?;
        let config = Config {
            workers_expected,
            lease: timing.lease,
            reattach_grace: timing.reattach_grace,
            progress_timeout: timing.progress_timeout,
            stall_after: timing.progress_timeout / STALLS_BEFORE_TIMEOUT,
            ..Config::default()
        };
        let scheduler = Scheduler::new(config, plans.collect(), history);
        let report = experiment
            .store
            .read_json(&experiment.layout.evaluation())
            .await?;
        let shell = Shell::new(experiment, scheduler);
        if let Some(report) = report {
            shell.set_report(report);
        }
        Ok(Self {
            shell: Arc::new(shell),
            timing,
        })
    }

    /// The state as people see it, now and after every change.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots {
        Snapshots {
            shell: Arc::clone(&self.shell),
            changes: self.shell.changes(),
        }
    }

    /// Serves the connections of `incoming` until the experiment has ended, a shutdown is asked for, or this coordinator
    /// cannot go on.
    ///
    /// # Errors
    /// The store needs a person, a newer coordinator has claimed the experiment
    /// ([`Replaced`](crate::experiment::Replaced)), or the server fails.
    pub async fn serve<I, IO, E>(self, incoming: I, shutdown: Shutdown) -> anyhow::Result<Ended>
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
        };
        let (stop, mut stopped) = watch_channel::channel(false);
        let server = Server::builder()
            // A connection on which nothing comes is given up, but not before the lease has run out for the same silence.
            .http2_keepalive_interval(Some(self.timing.lease / 2))
            .http2_keepalive_timeout(Some(self.timing.lease))
            .max_concurrent_streams(MAX_STREAMS)
            .max_frame_size(MAX_FRAME_SIZE)
            .add_service(FleetServer::new(fleet))
            .add_service(StatusServer::new(status))
            .serve_with_incoming_shutdown(incoming, async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            });
        let mut server = tokio::spawn(server);
        let interrupted = tokio::select! {
            biased;
            () = self.rule() => false,
            () = async { shutdown.triggered().await; self.drain().await } => true,
            served = &mut server => {
                served.context("the server panicked")?.context("the server failed")?;
                anyhow::bail!("the server ended by itself");
            }
        };
        let broken = self.shell.take_broken();
        if !interrupted && broken.is_none() {
            self.farewell().await;
        }
        self.shell.close();
        if broken.is_none() {
            self.close_term().await;
        }
        stop.send_replace(true);
        if tokio::time::timeout(LAST_CALLS, &mut server).await.is_err() {
            server.abort();
        }
        match broken {
            Some(error) => Err(error),
            None if interrupted => Ok(Ended::Interrupted),
            None => self.result(),
        }
    }

    /// Drives the experiment to its end, or until this coordinator cannot go on or does not rule any more.
    async fn rule(&self) {
        let watch = async {
            loop {
                tokio::time::sleep(RULE_INTERVAL).await;
                // A store that fails for a while is no reason to stop.
                let _ = self.shell.check_rule().await;
            }
        };
        tokio::select! {
            biased;
            () = self.shell.drive() => {}
            () = watch => {}
        }
    }

    /// Has all workers hand their tasks back and leave.
    async fn drain(&self) {
        let mut changes = self.shell.changes();
        self.shell.drain_all("the coordinator stops");
        self.wait_for_workers(&mut changes, self.timing.drain_grace)
            .await;
    }

    /// Sends all workers home and waits until they have gone.
    async fn farewell(&self) {
        let mut changes = self.shell.changes();
        self.shell.dismiss("the experiment has ended");
        self.wait_for_workers(&mut changes, FAREWELL).await;
    }

    async fn wait_for_workers(&self, changes: &mut watch_channel::Receiver<u64>, limit: Duration) {
        let gone = async { while self.shell.has_workers() && changes.changed().await.is_ok() {} };
        if tokio::time::timeout(limit, gone).await.is_err() {
            tracing::warn!("some workers did not leave in time");
        }
    }

    /// Writes down that nobody holds a lease, if so: a coordinator that is started again need not wait for anyone then.
    async fn close_term(&self) {
        if self.shell.read(|scheduler, _| scheduler.has_leases()) {
            return;
        }
        let closed = self.shell.experiment.close_term();
        match tokio::time::timeout(LAST_CALLS, closed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot write down that this term has ended"),
            Err(_) => {
                tracing::warn!("the store is too slow to write down that this term has ended")
            }
        }
    }

    fn result(&self) -> anyhow::Result<Ended> {
        if let ExperimentState::Failed { reasons } =
            self.shell.read(|scheduler, _| scheduler.experiment_state())
        {
            return Ok(Ended::Failed(reasons));
        }
        let report = self
            .shell
            .report()
            .context("the experiment ended without an evaluation")?;
        Ok(Ended::Finished(Box::new(report.clone())))
    }
}

/// A view of a coordinator that goes on while it serves.
pub struct Snapshots {
    shell: Arc<Shell>,
    changes: watch_channel::Receiver<u64>,
}

impl Snapshots {
    /// The state now.
    #[must_use]
    pub fn now(&mut self) -> Snapshot {
        self.changes.mark_unchanged();
        watch::snapshot(&self.shell)
    }

    /// Resolves after the next change.
    pub async fn changed(&mut self) {
        // The shell, which we hold, holds the sender.
        let _ = self.changes.changed().await;
    }
}
