//! The coordinator's timers, in the one place that knows their flags.

use std::time::Duration;

/// The coordinator's timers.
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// How often workers send heartbeats.
    pub heartbeat_interval: Duration,
    /// How long a lease lasts without one.
    pub lease: Duration,
    /// How long a lease outlives its worker's connection while a spare stands by.
    pub reattach_grace: Duration,
    /// How long a run may go without progress.
    pub progress_timeout: Duration,
    /// How often a mid-epoch checkpoint is kept.
    pub checkpoint_interval: Duration,
}

impl Timers {
    /// Short ones, so that a fault is over in seconds, but long enough for a machine that is busy.
    pub const SHORT: Self = Self {
        heartbeat_interval: Duration::from_millis(250),
        lease: Duration::from_secs(3),
        reattach_grace: Duration::from_millis(1500),
        progress_timeout: Duration::from_secs(60),
        checkpoint_interval: Duration::from_secs(600),
    };

    /// The coordinator's arguments.
    #[must_use]
    pub fn arguments(self) -> Vec<String> {
        let flags = [
            ("--heartbeat-interval", self.heartbeat_interval),
            ("--lease", self.lease),
            ("--reattach-grace", self.reattach_grace),
            ("--progress-timeout", self.progress_timeout),
            ("--checkpoint-interval", self.checkpoint_interval),
        ];
        let flags =
            flags.map(|(flag, value)| [flag.to_owned(), format!("{}ms", value.as_millis())]);
        flags.into_iter().flatten().collect()
    }
}
