//! The fleet's timers.

use std::time::Duration;

/// The fleet's timers.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How often workers send heartbeats.
    pub heartbeat_interval: Duration,
    /// How long a lease lasts without one.
    pub lease: Duration,
    /// How long a run waits for a worker whose connection has ended, although a spare stands by.
    pub reattach_grace: Duration,
    /// How long a live worker's task may go without progress before it is given to another.
    pub progress_timeout: Duration,
    /// How often workers commit a mid-epoch checkpoint; zero for never.
    pub checkpoint_interval: Duration,
    /// How long workers may take to hand their tasks back when this coordinator is told to stop.
    pub drain_grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(1),
            lease: Duration::from_secs(15),
            reattach_grace: Duration::from_millis(500),
            progress_timeout: Duration::from_secs(1800),
            checkpoint_interval: Duration::from_secs(600),
            drain_grace: Duration::from_secs(30),
        }
    }
}
