//! The coordinator's server: experiments with their schedulers, and the services through which workers and
//! people reach them.
//!
//! - `timing`: the fleet's timers
//! - `access`: who may call what
//! - `registry`: the experiments that this process leads, and which of them a worker works for
//! - `leader`: what it does for one of them; `queue_runner`: for a queue of them; `last_calls`: at their end
//! - `shell`: what the services and the driver share: `scheduler_handle` (the lock, with the `clock`),
//!   `connections` (the workers' streams) and `conclusion` (how the work ends)
//! - `driver`: carries the scheduler's decisions out
//! - `services`: all that is served on one port
//! - `fleet_service`: the workers' service, with `worker_stream` and `objects`
//! - `assignment`: what a worker gets with its lease
//! - `status_service`, `snapshots`: what people watch; `store_trouble`: whether the store works
//! - `queue_service`: what people do with the queue
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
mod last_calls;
mod leader;
mod logs;
mod objects;
mod queue_runner;
mod queue_service;
mod recorder;
mod refusal;
mod registry;
mod retention;
mod scheduler_handle;
mod services;
mod shell;
mod snapshots;
mod status_service;
mod store_trouble;
mod timing;
mod transaction;
mod web;
mod worker_stream;

use std::sync::Arc;

use futures::Stream;
use quartet_identity::session::Sessions;
use quartet_shared::shutdown::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::server::Connected;

use crate::experiment::Experiment;
use leader::Leader;
use queue_service::QueueService;
use registry::Registry;
use services::Services;

pub use access::Policy;
pub use exits::Exits;
pub use leader::ExperimentEnd;
pub use queue_runner::{Contact, News, QueueRunner};
pub use snapshots::Snapshots;
pub use timing::Timing;

/// A coordinator of one experiment that is ready to serve.
pub struct Coordinator {
    leader: Leader,
    registry: Arc<Registry>,
    timing: Timing,
    sessions: Option<Arc<Sessions>>,
}

impl Coordinator {
    /// Reads from the store how far the experiment is. Browsers need a session where keys are used.
    ///
    /// # Errors
    /// The store fails, or what it has of the experiment cannot be read.
    pub async fn new(
        experiment: Experiment,
        workers_expected: u32,
        timing: Timing,
        policy: Policy,
        sessions: Option<Sessions>,
    ) -> anyhow::Result<Self> {
        let registry = Registry::new(policy);
        let leader = Leader::new(experiment, workers_expected, timing, &registry).await?;
        registry.open(&leader.shell, |_| false);
        Ok(Self {
            leader,
            registry,
            timing,
            sessions: sessions.map(Arc::new),
        })
    }

    /// The state as people see it, now and after every change.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots {
        Snapshots::new(Arc::clone(&self.leader.shell))
    }

    /// Where the ends of worker processes are told that this process has started.
    #[must_use]
    pub fn exits(&self) -> Exits {
        Exits(Arc::clone(&self.registry))
    }

    /// Serves the connections of `incoming` until the experiment has ended, a shutdown is asked for, or
    /// this coordinator cannot go on.
    ///
    /// # Errors
    /// The store has failed permanently, a newer coordinator leads the experiment
    /// ([`Replaced`](crate::leadership::Replaced)), or the server fails.
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
        let queue = QueueService {
            registry: Arc::clone(&self.registry),
            runner: None,
        };
        let mut services =
            Services::start(&self.registry, queue, self.timing, self.sessions, incoming);
        let ended = tokio::select! {
            biased;
            ended = self.leader.run(&shutdown) => ended,
            failed = services.failed() => return Err(failed),
        };
        services.stop().await;
        ended
    }
}
