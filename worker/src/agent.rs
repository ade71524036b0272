//! The worker's side of the protocol: attach, send heartbeats, take tasks, come back after a lost connection.
//!
//! - `session`: one connection, from hello to its end
//! - `running`: the task at hand, on a thread of its own, so that heartbeats never wait for it
//! - `training`, `evaluation`: what a task does
//! - `link`: what the compute thread sees of the rest
//! - `upload`: checkpoints on their way to the coordinator, in the background and in order
//! - `objects`: data and checkpoints from the coordinator, verified and cached
//! - `connection`: the channel and its time limits

mod connection;
mod evaluation;
mod link;
mod objects;
mod running;
mod session;
mod training;
mod upload;

use std::path::PathBuf;
use std::time::Duration;

use quartet_shared::human;
use quartet_shared::ids::WorkerId;
use quartet_shared::shutdown::Shutdown;
use tokio::time::Instant;

use crate::device::TrainingDevice;
use session::End;

/// What a worker is told when it starts.
#[derive(Debug)]
pub struct Settings {
    /// `HOST:PORT` of the coordinator.
    pub coordinator: String,
    /// The name that people see.
    pub name: String,
    /// Folder for data sets and for checkpoints on their way.
    pub cache_dir: PathBuf,
    /// How long to look for a coordinator that does not answer.
    pub give_up_after: Duration,
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
/// When no coordinator answers for `give_up_after`, when it refuses this worker, or when the cache folder cannot be used.
pub async fn run(
    settings: Settings,
    device: TrainingDevice,
    shutdown: Shutdown,
) -> anyhow::Result<Ended> {
    let id: WorkerId = format!("w{:016x}", rand::random::<u64>()).parse()?;
    let spool = objects::Spool::create(&settings.cache_dir)?;
    let mut session = session::Session::new(id, &settings, device, spool)?;
    let mut backoff = Backoff::new();
    let mut last_contact = Instant::now();
    let mut told = false;
    loop {
        let end = session.connect_and_serve(&shutdown).await;
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
                    settings.coordinator
                );
            }
            End::Lost {
                reason,
                was_attached,
            } => {
                if was_attached {
                    last_contact = Instant::now();
                    backoff = Backoff::new();
                    told = false;
                }
                let silence = last_contact.elapsed();
                if silence > settings.give_up_after {
                    session.stop().await;
                    anyhow::bail!(
                        "no coordinator at {} for {} ({reason}); is `coordinator` running there?",
                        settings.coordinator,
                        human::duration(silence)
                    );
                }
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(coordinator = %settings.coordinator, %reason, "no connection to the coordinator; trying again until it answers");
                }
                tokio::select! {
                    () = tokio::time::sleep(backoff.next()) => {}
                    () = shutdown.triggered() => {
                        session.stop().await;
                        return Ok(Ended::Drained);
                    }
                }
            }
        }
    }
}

/// Waiting times that double from 100 ms to 2 s, each with a random part, so that a fleet does not come back in one moment.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(Duration::from_millis(100))
    }

    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.0.mul_f64(0.5 + 0.5 * rand::random::<f64>());
        self.0 = (self.0 * 2).min(Duration::from_secs(2));
        wait
    }
}
