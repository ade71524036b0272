//! The scheduler behind its lock, with its clock and its alarm.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quartet_shared::human;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::clock::{self, Clock, PULSE};
use super::history::History;
use crate::scheduler::{Now, Scheduler};

/// The scheduler and its time: under one lock, so that no call is earlier than the one before.
struct Timed {
    scheduler: Scheduler,
    clock: Clock,
}

/// The scheduler behind its lock, with its clock and its alarm.
pub(super) struct SchedulerHandle {
    timed: Mutex<Timed>,
    /// Wakes the driver.
    wake: Notify,
    /// Counts the changes that people can see.
    version: watch::Sender<u64>,
    /// Hears what has happened.
    history: Arc<History>,
    /// Hears that something has changed.
    changed: Arc<Notify>,
}

impl SchedulerHandle {
    pub(super) fn new(scheduler: Scheduler, history: Arc<History>, changed: Arc<Notify>) -> Self {
        Self {
            timed: Mutex::new(Timed {
                scheduler,
                clock: Clock::new(Instant::now(), clock::suspended()),
            }),
            wake: Notify::new(),
            version: watch::Sender::new(0),
            history,
            changed,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Timed> {
        self.timed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long ago this coordinator started.
    pub(super) fn uptime(&self) -> Duration {
        self.lock().clock.uptime()
    }

    /// Reads the scheduler.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Scheduler, Now) -> T) -> T {
        self.with(|scheduler, now| read(scheduler, now))
    }

    /// Calls the scheduler, and wakes and tells nobody.
    pub(super) fn with<T>(&self, call: impl FnOnce(&mut Scheduler, Now) -> T) -> T {
        let Timed { scheduler, clock } = &mut *self.lock();
        let (now, gap) = clock.read(Instant::now(), clock::suspended());
        if let Some(gap) = gap {
            let gap = human::duration(gap);
            tracing::warn!(%gap, "this coordinator did not run for a while; all leases last as much longer");
            scheduler.resumed(now);
        }
        let returned = call(scheduler, now);
        // Under the lock, so that they stay in order.
        self.history.add_all(scheduler.take_occurrences());
        returned
    }

    /// Tells the scheduler a fact from which nothing follows except that a deadline is later: thousands
    /// of heartbeats a second must not wake the driver.
    pub(super) fn note<T>(&self, tell: impl FnOnce(&mut Scheduler, Now) -> T) -> T {
        let told = self.with(tell);
        self.mark_changed();
        told
    }

    /// Tells the scheduler a fact, and wakes the driver to carry out what follows from it.
    pub(super) fn tell<T>(&self, tell: impl FnOnce(&mut Scheduler, Now) -> T) -> T {
        let told = self.with(tell);
        self.wake();
        self.mark_changed();
        told
    }

    /// Wakes the driver.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Resolves when the driver is woken, or at the deadline. Reads the clock meanwhile.
    pub(super) async fn woken(&self, deadline: Option<Now>) {
        loop {
            // Later than before if this process did not run meanwhile.
            let deadline = deadline.map(|deadline| self.lock().clock.instant(deadline));
            let deadline = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.wake.notified() => return,
                () = deadline => return,
                () = tokio::time::sleep(PULSE) => self.with(|_, _| ()),
            }
        }
    }

    pub(super) fn mark_changed(&self) {
        self.version.send_modify(|version| *version += 1);
        self.changed.notify_one();
    }

    /// Changes with every fact.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}
