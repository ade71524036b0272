//! The scheduler's time, which stands still while this process does: a suspended laptop or a migrated
//! machine must not cost the fleet its leases.

use std::time::Duration;

use tokio::time::Instant;

use crate::scheduler::Now;

/// How often the clock is read at least.
pub(super) const PULSE: Duration = Duration::from_millis(500);

/// A clock that was not read for longer belongs to a process that did not run.
const LONGEST_GAP: Duration = Duration::from_secs(2);

/// The time since a coordinator's start, without the time in which it did not run.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    read_at: Instant,
    stood_still: Duration,
}

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            read_at: now,
            stood_still: Duration::ZERO,
        }
    }

    /// The time at `now`, and how long the process had not run before, if that is long.
    pub(super) fn read(&mut self, now: Instant) -> (Now, Option<Duration>) {
        let gap = now - self.read_at;
        self.read_at = now;
        let gap = (gap > LONGEST_GAP).then_some(gap);
        self.stood_still += gap.unwrap_or_default();
        (Now(now - self.started - self.stood_still), gap)
    }

    /// When it will be `at`, if the process runs until then.
    pub(super) fn instant(&self, at: Now) -> Instant {
        self.started + self.stood_still + at.0
    }

    /// How long ago the process started, whether it ran or not.
    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_process_did_not_run_does_not_count() {
        let start = Instant::now();
        let seconds = Duration::from_secs_f64;
        let mut clock = Clock::new(start);
        let mut read = |at: f64| clock.read(start + seconds(at));
        assert_eq!(read(0.5), (Now(seconds(0.5)), None));
        assert_eq!(read(2.5), (Now(seconds(2.5)), None));
        assert_eq!(read(22.5), (Now(seconds(2.5)), Some(seconds(20.0))));
        assert_eq!(read(23.0), (Now(seconds(3.0)), None));
        assert_eq!(read(33.0), (Now(seconds(3.0)), Some(seconds(10.0))));
        let in_a_second = clock.instant(Now(seconds(4.0)));
        assert_eq!(in_a_second, start + seconds(34.0));
        assert_eq!(clock.read(in_a_second), (Now(seconds(4.0)), None));
    }
}
