//! What this process has counted, for monitoring.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use quartet_shared::event::{AttemptEnd, Occurrence};

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ending {
    how: &'static str,
}

/// What this process has counted.
pub(super) struct Counters {
    registry: Registry,
    attempts_started: Counter,
    attempts_ended: Family<Ending, Counter>,
    workers_joined: Counter,
    workers_lost: Counter,
    rollbacks: Counter,
    commit_bytes: Counter,
    commit_seconds: Histogram,
    store_errors: Counter,
}

impl Default for Counters {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("quartet");
        let attempts_started = Counter::default();
        let attempts_ended = Family::<Ending, Counter>::default();
        for how in ["done", "lost", "failed", "rejected", "handed_back"] {
            // From the start, so that the first one is an increase.
            drop(attempts_ended.get_or_create(&Ending { how }));
        }
        let workers_joined = Counter::default();
        let workers_lost = Counter::default();
        let rollbacks = Counter::default();
        let commit_bytes = Counter::default();
        // From 10 ms to 22 minutes.
        let commit_seconds = Histogram::new(exponential_buckets(0.01, 2.0, 18));
        let store_errors = Counter::default();
        let mut count = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        count(
            "attempts_started",
            "Attempts at tasks that were begun",
            &attempts_started,
        );
        count(
            "workers_joined",
            "Workers that joined the fleet",
            &workers_joined,
        );
        count(
            "workers_lost",
            "Workers that were not heard of any more",
            &workers_lost,
        );
        count(
            "rollbacks",
            "Runs that went back because a checkpoint was corrupt",
            &rollbacks,
        );
        count(
            "store_errors",
            "Calls of the store that failed; one that has not answered yet is not counted",
            &store_errors,
        );
        registry.register(
            "attempts_ended",
            "Attempts that ended, by how",
            attempts_ended.clone(),
        );
        let help = "Sizes of the checkpoints that were committed, added up";
        registry.register_with_unit("commit", help, Unit::Bytes, commit_bytes.clone());
        let help = "Time from a checkpoint's first byte to its manifest";
        registry.register_with_unit(
            "commit_duration",
            help,
            Unit::Seconds,
            commit_seconds.clone(),
        );
        Self {
            registry,
            attempts_started,
            attempts_ended,
            workers_joined,
            workers_lost,
            rollbacks,
            commit_bytes,
            commit_seconds,
            store_errors,
        }
    }
}

impl Counters {
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Something has happened.
    pub(super) fn count(&self, what: &Occurrence) {
        let ended = |how| self.attempts_ended.get_or_create(&Ending { how }).inc();
        let _ = match what {
            Occurrence::AttemptStarted { .. } => self.attempts_started.inc(),
            Occurrence::AttemptEnded { how, .. } => ended(match how {
                AttemptEnd::Lost => "lost",
                AttemptEnd::Failed => "failed",
                AttemptEnd::Rejected => "rejected",
                AttemptEnd::HandedBack => "handed_back",
            }),
            Occurrence::RunFinished { .. } | Occurrence::Evaluated { .. } => ended("done"),
            Occurrence::WorkerJoined { .. } => self.workers_joined.inc(),
            Occurrence::WorkerLost { .. } => self.workers_lost.inc(),
            Occurrence::RolledBack { .. } => self.rollbacks.inc(),
            _ => 0,
        };
    }

    /// A checkpoint of so many bytes was committed.
    pub(super) fn committed(&self, bytes: u64, took: Duration) {
        self.commit_bytes.inc_by(bytes);
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// A call of the store has failed.
    pub(super) fn store_failed(&self) {
        self.store_errors.inc();
    }
}
