//! The scheduler's timers, budgets and rules.

use std::time::Duration;

use quartet_shared::spec::Ensemble;

/// Timers, budgets and rules.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Size of the fleet that the user announced. Work begins with the first worker all the same.
    pub workers_expected: u32,
    /// How long a lease lasts without a heartbeat that names it.
    pub lease: Duration,
    /// How long a live worker's task may go without progress.
    pub progress_timeout: Duration,
    /// How long a task may go without progress before people are told.
    pub stall_after: Duration,
    /// How long a lease outlives its worker's connection while a spare worker stands by. Without a
    /// spare it lasts until it expires.
    pub reattach_grace: Duration,
    /// The same after a start of the coordinator, for the leases that an older one granted.
    pub recovery_grace: Duration,
    /// How many lost workers a task survives without a commit in between; one more and it has failed.
    pub max_worker_losses: u32,
    /// How many failures of its own a task survives without a commit in between; one more and it has
    /// failed.
    pub max_failures: u32,
    /// How many failures that another try can only repeat a task survives without a commit in between; one
    /// more and it has failed. It is tried elsewhere where there is another worker, for the case that the
    /// machine was to blame.
    pub max_repeatable_failures: u32,
    /// On how many different workers a task may fail, without a commit in between, before it has
    /// failed for good.
    pub max_failed_workers: u32,
    /// How many different tasks may fail on a worker, without a success in between, before it gets no
    /// more of them as long as another worker is there.
    pub quarantine_after: u32,
    /// Wait after a task's first failure; it doubles with every further one.
    pub backoff: Duration,
    /// The longest such wait.
    pub max_backoff: Duration,
    /// How long a lost worker stays in the view.
    pub forget_after: Duration,
    /// Which runs the evaluation needs.
    pub ensemble: Ensemble,
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
            max_repeatable_failures: 1,
            max_failed_workers: 3,
            quarantine_after: 3,
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
            forget_after: Duration::from_secs(600),
            ensemble: Ensemble::default(),
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
