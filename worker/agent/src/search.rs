//! The search for a coordinator: how long it lasts, and what is said of it.

use std::time::Duration;

use quartet_shared::human;
use tokio::time::Instant;

use super::Departure;
use super::coordinators::Coordinators;
use super::random::{Backoff, Random};
use crate::executor::UnsupportedPrecision;

/// A search that begins anew with every contact.
#[derive(Debug)]
pub(super) struct Search {
    give_up_after: Duration,
    random: Random,
    backoff: Backoff,
    last_contact: Instant,
    /// Whether no coordinator was lost: the last one sent the worker on, or had no work that it can do.
    sent_on: bool,
    /// Whether people know that there is no connection.
    told: bool,
    /// Whether people know that the coordinator has no experiment for the worker.
    waits: bool,
    /// What people know to be in the way of working for the coordinator that answers.
    unsupported: Option<UnsupportedPrecision>,
}

impl Search {
    pub(super) fn new(give_up_after: Duration, random: &Random) -> Self {
        Self {
            give_up_after,
            random: random.clone(),
            backoff: Backoff::new(random),
            last_contact: Instant::now(),
            sent_on: false,
            told: false,
            waits: false,
            unsupported: None,
        }
    }

    /// No coordinator answers.
    pub(super) fn unreachable(&mut self) {
        self.waits = false;
    }

    /// A coordinator that the worker was attached to is gone.
    pub(super) fn lost(&mut self) {
        *self = Self::new(self.give_up_after, &self.random);
    }

    /// The coordinator needs the worker no longer, which stays.
    pub(super) fn sent_on(&mut self, reason: &str) {
        tracing::info!(%reason, "this worker stays, and looks for the next coordinator");
        *self = Self {
            sent_on: true,
            // Nobody needs to be there yet.
            told: true,
            ..Self::new(self.give_up_after, &self.random)
        };
    }

    /// The worker, which stays, cannot compute what the coordinator has to be computed.
    pub(super) fn unsupported(&mut self, error: UnsupportedPrecision) {
        if self.unsupported.replace(error) != Some(error) {
            tracing::warn!(%error, "this worker stays, and waits for another experiment");
        }
        // The pauses go on to grow: this coordinator may be there for days.
        (self.last_contact, self.sent_on, self.told) = (Instant::now(), true, true);
    }

    /// The coordinator has no experiment for the worker now. It answers late, so that the next try is soon.
    pub(super) fn no_experiment(&mut self, reason: &str) {
        if !self.waits {
            tracing::info!(%reason, "waiting for an experiment");
        }
        self.waits = true;
        self.backoff = Backoff::new(&self.random);
    }

    /// There is no connection. Returns how the worker's life ends by it, if it has looked for long enough.
    pub(super) fn failed(
        &mut self,
        reason: &str,
        coordinators: &Coordinators,
    ) -> Option<anyhow::Result<Departure>> {
        let silence = self.last_contact.elapsed();
        if silence > self.give_up_after {
            return Some(match self.sent_on || self.waits {
                true => Ok(Departure::NoneCame(self.give_up_after)),
                false => Err(anyhow::anyhow!(
                    "no coordinator at {coordinators} for {} ({reason}); is `coordinator` running there, \
                     with --listen if it is another machine?",
                    human::duration(silence)
                )),
            });
        }
        if !self.waits && !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                coordinator = %coordinators, %reason,
                "no connection to the coordinator; trying again until it answers"
            );
        }
        None
    }

    /// How long to wait until the next try.
    pub(super) fn pause(&mut self) -> Duration {
        self.backoff.next()
    }
}
