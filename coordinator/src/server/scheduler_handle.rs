//! The scheduler behind its lock, with its clock and its alarm.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::scheduler::{Now, Scheduler};

/// The scheduler behind its lock, with its clock and its alarm.
pub(super) struct SchedulerHandle {
    scheduler: Mutex<Scheduler>,
    started: Instant,
    /// Wakes the driver.
    wake: Notify,
    /// Counts the changes that people can see.
    version: watch::Sender<u64>,
}

impl SchedulerHandle {
    pub(super) fn new(scheduler: Scheduler) -> Self {
        Self {
            scheduler: Mutex::new(scheduler),
            started: Instant::now(),
            wake: Notify::new(),
            version: watch::Sender::new(0),
        }
    }

    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Reads the scheduler.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Scheduler, Now) -> T) -> T {
        self.with(|scheduler, now| read(scheduler, now))
    }

    /// Calls the scheduler, and wakes and tells nobody.
    pub(super) fn with<T>(&self, call: impl FnOnce(&mut Scheduler, Now) -> T) -> T {
        let now = Now(self.uptime());
        let scheduler = self.scheduler.lock();
        call(&mut scheduler.unwrap_or_else(PoisonError::into_inner), now)
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

    /// Resolves when the driver is woken, or at the deadline.
    pub(super) async fn woken(&self, deadline: Option<Now>) {
        let deadline = async {
            match deadline {
                Some(Now(deadline)) => tokio::time::sleep_until(self.started + deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.wake.notified() => {}
            () = deadline => {}
        }
    }

    pub(super) fn mark_changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Changes with every fact.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}
