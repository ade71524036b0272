//! The worker's side of the protocol: attach, send heartbeats, take tasks, come back after a lost connection.
//!
//! - `session`: one connection, from hello to its end
//! - `running`: the task at hand, apart from the session, so that heartbeats never wait for it
//! - `training`, `evaluation`: what a task does
//! - [`executor`]: what computes it
//! - `link`: what a computation sees of the rest
//! - `queue`, `upload`: checkpoints on their way to the coordinator, in the background and in order
//! - `objects`: data and checkpoints from the coordinator, verified and cached
//! - `coordinators`: the ways to the coordinator, and their time limits
//! - `random`: the worker's own random numbers

mod coordinators;
mod evaluation;
pub mod executor;
mod link;
mod objects;
mod queue;
mod random;
mod running;
mod session;
mod training;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quartet_proto::channel::Connector;
use quartet_shared::address::Address;
use quartet_shared::human;
use quartet_shared::ids::WorkerId;
use quartet_shared::shutdown::Shutdown;
use tokio::time::Instant;

use executor::Executor;
pub use link::Link;
use random::{Backoff, Random};
use session::End;

/// What a worker is told when it starts.
#[derive(Debug)]
pub struct Settings {
    /// Where the coordinator may be: tried one after the other.
    pub coordinators: Vec<Address>,
    /// The name that people see.
    pub name: String,
    /// Folder for data sets and for checkpoints on their way.
    pub cache_dir: PathBuf,
    /// How long to look for a coordinator that does not answer.
    pub give_up_after: Duration,
    /// How long the task at hand may take to commit its state and end, when the worker is to leave or has lost its lease.
    pub drain_grace: Duration,
    /// How it is reached.
    pub connector: Connector,
    /// Of the worker's own random numbers: its id, names of files, waiting times. Two workers must not have the same.
    pub seed: u64,
}

/// How a worker's life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The coordinator needs it no longer.
    Dismissed(String),
    /// A signal asked it to stop, and it handed its task back.
    Drained,
}

/// Works for the coordinator until dismissed or shut down.
///
/// # Errors
/// When no coordinator answers for `give_up_after`, when it refuses this worker, when the experiment's precision is not computed here
/// ([`executor::UnsupportedPrecision`]), or when the cache folder cannot be used.
pub async fn run(
    settings: Settings,
    executor: Arc<dyn Executor>,
    shutdown: Shutdown,
) -> anyhow::Result<Ended> {
    let random = Random::new(settings.seed);
    let id: WorkerId = format!("w{:016x}", random.number()).parse()?;
    let spool = objects::Spool::create(&settings.cache_dir, &random)?;
    let mut session = session::Session::new(id, &settings, executor, random.clone(), spool)?;
    let mut backoff = Backoff::new(&random);
    let mut last_contact = Instant::now();
    let mut told = false;
    loop {
        let mut end = session.connect_and_serve(&shutdown).await;
        if let End::Lost {
            reason,
            was_attached,
        } = &end
        {
            if *was_attached {
                last_contact = Instant::now();
                backoff = Backoff::new(&random);
                told = false;
            }
            let silence = last_contact.elapsed();
            if silence > settings.give_up_after {
                session.stop().await;
                anyhow::bail!(
                    "no coordinator at {} for {} ({reason}); is `coordinator` running there, with --listen if it is another machine?",
                    session.coordinators,
                    human::duration(silence)
                );
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(coordinator = %session.coordinators, %reason, "no connection to the coordinator; trying again until it answers");
            }
            session.coordinators.next();
            match session.pause(backoff.next(), &shutdown).await {
                Some(ended) => end = ended,
                None => continue,
            }
        }
        match end {
            End::Dismissed(reason) => {
                session.stop().await;
                return Ok(Ended::Dismissed(reason));
            }
            End::Drained => return Ok(Ended::Drained),
            End::Refused(reason) => {
                session.stop().await;
                anyhow::bail!(
                    "the coordinator at {} refuses this worker: {reason}",
                    session.coordinators
                );
            }
            End::Unsuited(unsupported) => return Err(unsupported.into()),
            End::Stuck(reason) => anyhow::bail!(reason),
            End::Lost { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
