//! The worker's side of the protocol: attach, send heartbeats, take tasks, come back after a lost connection.
//!
//! From top to bottom; each uses only those below it:
//!
//! - `session`: one connection, from hello to its end; `session_error`: when that is no good one
//! - `search`: what happens between two connections, and how long it may last
//! - `current_task`: the worker's task, which outlives connections, and how it comes to its end
//! - `parting`: how a worker parts from its coordinator when nothing failed
//! - `running`: starts a task apart from the session, so that heartbeats never wait for it
//! - `training`, `evaluation`: what a task does
//! - `upload`: checkpoints to the coordinator, in the background and in order
//! - `context`: what a task needs
//! - `log`: what the worker logs of its task, on its way to the coordinator
//! - `objects`: data and checkpoints from the coordinator, verified and cached
//! - `spool`: the folder for checkpoints on their way to the coordinator
//! - `calls`: calls to the coordinator, with deadlines and repetitions
//! - `task_error`: why a task ends without a result
//! - [`executor`]: what computes it, and how it reaches the rest
//! - `coordinators`: the ways to the coordinator, and their time limits
//! - `random`: the worker's own random numbers

mod calls;
mod context;
mod coordinators;
mod current_task;
mod evaluation;
pub mod executor;
mod log;
mod objects;
mod parting;
mod random;
mod running;
mod search;
mod session;
mod session_error;
mod spool;
mod task_error;
mod training;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quartet_proto::channel::Connector;
use quartet_shared::address::Address;
use quartet_shared::ids::WorkerId;
use quartet_shared::secret::Secret;
use quartet_shared::shutdown::Shutdown;
use quartet_shared::telemetry::LogTap;

use executor::Executor;
pub use executor::Link;
use parting::Parted;
use random::Random;
use search::Search;
pub use session_error::Refused;
use session_error::SessionError;

/// A worker's settings.
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
    /// Whether to look for the next coordinator once an experiment has ended, or its coordinator stops.
    pub stay: bool,
    /// How long the current task may take to end, when the worker is to leave or has lost its lease. The task
    /// commits its state first if the lease lasts.
    pub drain_grace: Duration,
    /// Opens connections to the coordinators.
    pub connector: Connector,
    /// Its id, if that was chosen by who started it. No two workers may have the same one.
    pub id: Option<WorkerId>,
    /// The seed of the worker's own random numbers: its id unless it has one, names of files, waiting times.
    /// No two workers may have the same one.
    pub seed: u64,
    /// What the worker proves itself with.
    pub secret: Secret,
    /// What this process logs, for the coordinator to keep. `None` where several workers share a process.
    pub log: Option<LogTap>,
}

/// How a worker's life ended when nothing failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The coordinator needs it no longer.
    Dismissed(String),
    /// It was asked to leave, and handed its task back.
    Drained,
    /// No experiment came for this long: its coordinator has none for it, or, if it stayed when its last one
    /// needed it no longer, no other answered.
    NoneCame(Duration),
}

/// Works for the coordinator until dismissed or shut down; with `stay` for one coordinator after the other,
/// until none has come for `give_up_after`.
///
/// # Errors
/// When no coordinator answers for `give_up_after` although none has sent this worker on, when it refuses
/// this worker ([`Refused`]), when the executor does not compute in the experiment's precision
/// ([`executor::UnsupportedPrecision`]; with `stay` it waits for another experiment), when the task does not
/// stop within `drain_grace`, or when the cache folder cannot be used.
pub async fn run(
    settings: Settings,
    executor: Arc<dyn Executor>,
    shutdown: Shutdown,
) -> anyhow::Result<Departure> {
    let random = Random::new(settings.seed);
    let id = match &settings.id {
        Some(id) => id.clone(),
        None => WorkerId::from_number(random.number()),
    };
    let spool = spool::Spool::create(&settings.cache_dir, &random)?;
    let mut session = session::Session::new(id, &settings, executor, random.clone(), spool)?;
    let mut search = Search::new(settings.give_up_after, &random);
    let ended = loop {
        match session.connect_and_serve(&shutdown).await {
            Ok(Parted::Left(departure)) => break Ok(departure),
            Ok(Parted::Stays(reason)) => {
                session.stop().await;
                search.sent_on(&reason);
            }
            Err(SessionError::Unsupported(error)) if settings.stay => search.unsupported(error),
            Err(SessionError::Lost {
                reason,
                was_attached,
            }) => {
                match was_attached {
                    true => search.lost(),
                    false => search.unreachable(),
                }
                if let Some(ended) = search.failed(&reason, &session.coordinators) {
                    session.stop().await;
                    return ended;
                }
            }
            Err(SessionError::NoExperiment(reason)) => {
                search.no_experiment(&reason);
                if let Some(ended) = search.failed(&reason, &session.coordinators) {
                    session.stop().await;
                    return ended;
                }
            }
            Err(error) => break Err(error),
        }
        session.coordinators.next();
        match session.pause(search.pause(), &shutdown).await {
            Ok(None) => {}
            Ok(Some(Parted::Left(departure))) => break Ok(departure),
            Ok(Some(Parted::Stays(reason))) => search.sent_on(&reason),
            Err(error) => break Err(error),
        }
    };
    match &ended {
        Ok(Departure::Dismissed(_)) | Err(SessionError::Refused(_)) => session.stop().await,
        _ => {}
    }
    ended.map_err(|error| match error {
        SessionError::Unsupported(unsupported) => unsupported.into(),
        SessionError::Refused(reason) => Refused {
            coordinator: session.coordinators.to_string(),
            reason,
        }
        .into(),
        error => error.into(),
    })
}

#[cfg(test)]
mod tests;
