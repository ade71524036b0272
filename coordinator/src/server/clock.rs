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
    suspended: Duration,
}

impl Clock {
    /// A clock that begins `now`; `suspended` is [`suspended()`].
    pub(super) fn new(now: Instant, suspended: Duration) -> Self {
        Self {
            started: now,
            read_at: now,
            stood_still: Duration::ZERO,
            suspended,
        }
    }

    /// The time at `now`, and how long the process had not run before, if that is long.
    pub(super) fn read(&mut self, now: Instant, suspended: Duration) -> (Now, Option<Duration>) {
        let gap = now - self.read_at;
        self.read_at = now;
        // An instant does not count this, so that nothing is taken off for it.
        let asleep = suspended.saturating_sub(self.suspended);
        self.suspended = suspended;
        if gap > LONGEST_GAP {
            self.stood_still += gap;
        }
        let missed = gap + asleep;
        (
            Now(now - self.started - self.stood_still),
            (missed > LONGEST_GAP).then_some(missed),
        )
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

/// How long this machine has been suspended since it was started, where that is known. [`Instant`] stands
/// still meanwhile.
pub(super) fn suspended() -> Duration {
    #[cfg(target_os = "linux")]
    {
        use rustix::time::{ClockId, Timespec, clock_gettime};
        let since_start = |clock| {
            let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
            let nanos = i128::from(tv_sec) * 1_000_000_000 + i128::from(tv_nsec);
            Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
        };
        since_start(ClockId::Boottime).saturating_sub(since_start(ClockId::Monotonic))
    }
    #[cfg(not(target_os = "linux"))]
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_process_did_not_run_does_not_count() {
        let start = Instant::now();
        let seconds = Duration::from_secs_f64;
        let mut clock = Clock::new(start, Duration::ZERO);
        let mut read = |at: f64| clock.read(start + seconds(at), Duration::ZERO);
        assert_eq!(read(0.5), (Now(seconds(0.5)), None));
        assert_eq!(read(2.5), (Now(seconds(2.5)), None));
        assert_eq!(read(22.5), (Now(seconds(2.5)), Some(seconds(20.0))));
        assert_eq!(read(23.0), (Now(seconds(3.0)), None));
        assert_eq!(read(33.0), (Now(seconds(3.0)), Some(seconds(10.0))));
        let in_a_second = clock.instant(Now(seconds(4.0)));
        assert_eq!(in_a_second, start + seconds(34.0));
        let read = clock.read(in_a_second, Duration::ZERO);
        assert_eq!(read, (Now(seconds(4.0)), None));
    }

    #[test]
    fn time_in_which_the_machine_was_suspended_is_noticed() {
        let start = Instant::now();
        let seconds = Duration::from_secs_f64;
        let mut clock = Clock::new(start, seconds(100.0));
        let mut read =
            |at: f64, suspended: f64| clock.read(start + seconds(at), seconds(suspended));
        assert_eq!(read(0.5, 100.0), (Now(seconds(0.5)), None));
        assert_eq!(
            read(1.0, 3700.0),
            (Now(seconds(1.0)), Some(seconds(3600.5)))
        );
        assert_eq!(read(1.5, 3700.0), (Now(seconds(1.5)), None));
    }
}
