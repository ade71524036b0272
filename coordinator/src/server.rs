//! The coordinator's server: the scheduler in its shell, the services, the end of the experiment.
//!
//! - `shell`: clock, lock, outboxes, and the driver that carries decisions out
//! - `fleet`: the workers' service; `commit` and `finish` are its transactions with the store
//! - `retention`: deletes checkpoints that are no longer needed
//! - `watch`: the status service
//! - `refusal`: errors as gRPC codes

mod commit;
mod finish;
mod fleet;
mod refusal;
mod retention;
mod shell;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use quartet_proto::v1::fleet_server::FleetServer;
use quartet_proto::v1::status_server::StatusServer;
use quartet_shared::report::EvaluationReport;
use quartet_shared::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::watch as watch_channel;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::experiment::{self, Experiment};
use crate::scheduler::{Config, ExperimentState, RunPlan, Scheduler};
use crate::status::snapshot::Snapshot;
use fleet::FleetService;
use shell::Shell;
use watch::StatusService;

/// How long workers may take to leave at the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long the services may take to answer their last calls.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// The fleet's timers.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How often workers send heartbeats.
    pub heartbeat_interval: Duration,
    /// How long a lease lasts without one.
    pub lease: Duration,
    /// How long a live worker's task may go without progress before it is given to another.
    pub progress_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(1),
            lease: Duration::from_secs(15),
            progress_timeout: Duration::from_secs(1800),
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
            progress_timeout: timing.progress_timeout,
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

    /// Serves until the experiment has ended or a shutdown is asked for.
    pub async fn serve(self, listener: TcpListener, shutdown: Shutdown) -> anyhow::Result<Ended> {
        let fleet = FleetService {
            shell: Arc::clone(&self.shell),
            timing: self.timing,
        };
        let status = StatusService {
            shell: Arc::clone(&self.shell),
        };
        let (stop, mut stopped) = watch_channel::channel(false);
        let server = Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .http2_keepalive_timeout(Some(Duration::from_secs(5)))
            .add_service(FleetServer::new(fleet))
            .add_service(StatusServer::new(status))
            .serve_with_incoming_shutdown(
                TcpIncoming::from(listener).with_nodelay(Some(true)),
                async move {
                    let _ = stopped.wait_for(|stop| *stop).await;
                },
            );
        let mut server = tokio::spawn(server);
        let interrupted = tokio::select! {
            () = self.shell.drive() => false,
            () = shutdown.triggered() => true,
            served = &mut server => {
                served.context("the server panicked")?.context("the server failed")?;
                anyhow::bail!("the server ended by itself");
            }
        };
        if !interrupted {
            self.farewell().await;
        }
        stop.send_replace(true);
        if tokio::time::timeout(LAST_CALLS, &mut server).await.is_err() {
            server.abort();
        }
        if interrupted {
            Ok(Ended::Interrupted)
        } else {
            self.result()
        }
    }

    /// Sends all workers home and waits until they have gone.
    async fn farewell(&self) {
        let mut changes = self.shell.changes();
        self.shell.dismiss("the experiment has ended");
        let gone = async { while self.shell.has_workers() && changes.changed().await.is_ok() {} };
        if tokio::time::timeout(FAREWELL, gone).await.is_err() {
            tracing::warn!("some workers did not leave in time");
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
