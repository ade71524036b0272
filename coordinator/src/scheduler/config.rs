//! What the scheduler is told when it starts: its settings, the plan, and what the store knows.

use std::ops::Add;
use std::time::Duration;

use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::{Attempt, Epoch, RunName, WorkerId};
use quartet_shared::outcome::Outcome;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::spec::Backbone;
use quartet_store::manifest::Manifest;

/// A point in time: how long ago an arbitrary origin was on the shell's monotonic clock. The
/// scheduler has no clock of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now(pub Duration);

impl Now {
    /// How long ago `earlier` was; zero when it is yet to come.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Now {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// Timers and budgets.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Size of the fleet that the user announced. Work begins with the first worker all the same.
    pub workers_expected: u32,
    /// How long a lease lasts without a heartbeat that names it.
    pub lease: Duration,
    /// How long a live worker's task may go without progress.
    pub progress_timeout: Duration,
    /// After how long without progress people are told of it.
    pub stall_after: Duration,
    /// How long after the end of its worker's connection a lease stays although a spare worker stands by. Without a
    /// spare it stays until it expires.
    pub reattach_grace: Duration,
    /// The same after a start of the coordinator, for the leases that an older one gave.
    pub recovery_grace: Duration,
    /// How many lost workers a task survives without a commit in between; one more and it has failed.
    pub max_worker_losses: u32,
    /// How many failures of its own a task survives without a commit in between; one more and it has failed.
    pub max_failures: u32,
    /// On how many different workers a task fails, without a commit in between, before it has failed for good.
    pub max_failed_workers: u32,
    /// How many different tasks fail on a worker, without a success in between, before it gets no more of them as long as
    /// another worker is there.
    pub quarantine_after: u32,
    /// Wait after a task's first failure; it doubles with every further one.
    pub backoff: Duration,
    /// The longest such wait.
    pub max_backoff: Duration,
    /// How long a lost worker stays in the view.
    pub forget_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers_expected: 1,
            lease: Duration::from_secs(15),
            progress_timeout: Duration::from_secs(1800),
            stall_after: Duration::from_secs(180),
            reattach_grace: Duration::from_millis(500),
            recovery_grace: Duration::from_secs(5),
            max_worker_losses: 5,
            max_failures: 3,
            max_failed_workers: 3,
            quarantine_after: 3,
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
            forget_after: Duration::from_secs(600),
        }
    }
}

impl Config {
    /// The wait after the `failures`-th failure.
    pub(super) fn backoff_after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.backoff
            .saturating_mul(1 << doublings)
            .min(self.max_backoff)
    }
}

/// A run that is to be trained.
#[derive(Clone, Debug, PartialEq)]
pub struct RunPlan {
    /// The run.
    pub name: RunName,
    /// The network that it trains.
    pub backbone: Backbone,
    /// The epochs that it has at most.
    pub epochs: u32,
    /// Epochs in a row without improvement after which it stops early.
    pub patience: u32,
    /// Expected time of an epoch relative to other runs; the longest run is handed out first.
    pub cost: f64,
}

/// What a committed epoch says about the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CommittedEpoch {
    /// The epoch's metrics.
    pub metrics: EpochMetrics,
    /// Best epoch and patience after it.
    pub early_stopping: EarlyStopping,
}

impl From<&Manifest> for CommittedEpoch {
    fn from(manifest: &Manifest) -> Self {
        Self {
            metrics: manifest.metrics,
            early_stopping: manifest.early_stopping,
        }
    }
}

/// The newest lease that an older coordinator gave for a task. Later ones get greater attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastLease {
    /// Its attempt.
    pub attempt: Attempt,
    /// Whom it was given to.
    pub worker: WorkerId,
    /// The worker's name for people.
    pub name: String,
    /// Whether it is known to have ended; otherwise its worker may still hold it.
    pub ended: bool,
}

/// What the store knows about a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunHistory {
    /// The run.
    pub run: RunName,
    /// The newest lease that was given.
    pub lease: Option<LastLease>,
    /// The last committed epoch.
    pub committed: Option<(Epoch, CommittedEpoch)>,
    /// Committed steps of the epoch after it.
    pub step: u32,
    /// The result, once the run has finished.
    pub outcome: Option<Outcome>,
}

/// What the store knows about the experiment. Budgets are not in it: a coordinator that is started
/// again gives every task that has not finished new ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The runs; those of the plan that are missing have not begun, others are ignored.
    pub runs: Vec<RunHistory>,
    /// The newest lease of the evaluation.
    pub evaluation: Option<LastLease>,
    /// Whether the evaluation has finished.
    pub evaluated: bool,
}
