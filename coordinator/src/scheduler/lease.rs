//! A lease: when it is granted, renewed, pinned, reclaimed, and when it expires.

use std::fmt;
use std::time::Duration;

use quartet_shared::human;
use quartet_shared::ids::{Attempt, Epoch, ExperimentId, WorkerId};
use quartet_shared::position::Position;
use quartet_shared::progress::{Phase, Progress};
use quartet_shared::secret::SecretHash;
use quartet_shared::task::{LeaseId, Task};

use super::config::Config;
use super::refusal::Refusal;
use super::release::Failure;
use super::time::Now;

/// A lease that has not ended.
///
/// ```text
///                   recorded             begin_*
/// grant ──> pinned ──────────> live <──────────────> pinned
///              │                │        end_*         │
///              │ lost           │ expired, lost,       │ lost
///              v                │ failed, handed back  v
///           ending ──end_*──> ended <────end_*────── ending
/// ```
/// A pinned lease does not expire. If something ends it all the same, it is `ending` until the
/// transaction that pins it has ended; its worker is refused from then on.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The lease.
    pub id: LeaseId,
    /// The worker's last report.
    pub progress: Option<Progress>,
    /// When the lease expires unless a heartbeat names it before.
    pub(super) expires_at: Now,
    /// When the lease may be ended in favour of a spare worker: its worker is not connected.
    pub(super) reclaimable_at: Option<Now>,
    /// When the task last made progress.
    pub(super) last_progress_at: Now,
    /// The farthest upload so far: its position, and the bytes that have come.
    uploaded: Option<(Position, u64)>,
    /// The value of `last_progress_at` for which a stall has been reported.
    stall_reported: Option<Now>,
    /// The transaction that keeps the lease from ending.
    pub(super) pin: Option<Pin>,
    /// How the lease ends once it is no longer pinned.
    pub(super) ending: Option<Ending>,
    /// When the epoch that the worker last trained began, as far as it was heard of.
    epoch_start: Option<EpochStart>,
    /// When the worker's last report came.
    reported_at: Now,
    /// The worker's name, as the record of a lease has it that an older coordinator granted.
    recorded_name: Option<String>,
    /// Whether an older coordinator granted the lease, and the worker has not come back.
    restored: bool,
    /// The hash of the worker's secret, as the record of a lease has it that an older coordinator granted.
    recorded_secret: Option<SecretHash>,
}

/// The first report of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
struct EpochStart {
    epoch: Epoch,
    /// The steps that were done.
    step: u32,
    at: Now,
}

/// The least part of an epoch that tells how long the whole takes.
const LEAST_PART: f64 = 0.02;

/// A write to the store under a lease. Until it ends, the task is not leased again: the write could
/// succeed after a newer lease was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pin {
    /// The record of the lease itself.
    Grant,
    Commit(Position),
    /// Predictions; the place of their run.
    Keep(Position),
    Complete,
    Rollback,
}

/// How a lease ends other than by completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Counts as a lost worker.
    Lost(String),
    /// Counts as a failure.
    Failed(Failure),
    /// Ends the task for good.
    Rejected(String),
    /// Not counted.
    HandedBack,
    /// The lease could not be recorded, and its worker never heard of it. Not counted.
    Unrecorded,
}

/// Why a lease has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryReason {
    /// No heartbeat named it for this long.
    Silent(Duration),
    /// Its worker's connection ended, and the worker did not come back for this long.
    Disconnected(Duration),
    /// Its worker lives, but the task made no progress for this long.
    NoProgress(Duration),
}

impl fmt::Display for ExpiryReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(lease) => write!(f, "no heartbeat for {}", human::duration(*lease)),
            Self::Disconnected(grace) => {
                let grace = human::duration(*grace);
                write!(f, "it did not come back within {grace}")
            }
            Self::NoProgress(timeout) => write!(f, "no progress for {}", human::duration(*timeout)),
        }
    }
}

/// The newest lease of a task that an older coordinator granted. Later ones get greater attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastLease {
    /// Its attempt.
    pub attempt: Attempt,
    /// The worker that it was granted to.
    pub worker: WorkerId,
    /// The worker's name for people.
    pub name: String,
    /// The hash of the worker's secret, if it had one.
    pub secret: Option<SecretHash>,
    /// Whether it is known to have ended; otherwise its worker may still hold it.
    pub ended: bool,
    /// Whether its task has been changed since, so that what its worker does is not what is asked for.
    pub superseded: bool,
}

impl LastLease {
    /// The lease of this task.
    pub(super) fn id(&self, experiment: &ExperimentId, task: Task) -> LeaseId {
        LeaseId {
            experiment: experiment.clone(),
            task,
            attempt: self.attempt,
            worker: self.worker.clone(),
        }
    }
}

impl Lease {
    fn new(id: LeaseId, config: &Config, now: Now) -> Self {
        Self {
            id,
            progress: None,
            expires_at: now + config.lease,
            reclaimable_at: None,
            last_progress_at: now,
            uploaded: None,
            stall_reported: None,
            pin: None,
            ending: None,
            epoch_start: None,
            reported_at: now,
            recorded_name: None,
            restored: false,
            recorded_secret: None,
        }
    }

    /// A new lease, pinned until it is recorded in the store.
    pub(super) fn grant(id: LeaseId, config: &Config, now: Now) -> Self {
        Self {
            pin: Some(Pin::Grant),
            ..Self::new(id, config, now)
        }
    }

    /// A lease that an older coordinator granted. It counts as live until its worker comes back, or does not.
    pub(super) fn restore(id: LeaseId, last: LastLease, config: &Config) -> Self {
        let start = Now::default();
        Self {
            reclaimable_at: Some(start + config.recovery_grace),
            recorded_name: Some(last.name),
            restored: true,
            recorded_secret: last.secret,
            ..Self::new(id, config, start)
        }
    }

    /// Whether its worker may still work under it.
    pub(super) fn is_live(&self) -> bool {
        self.ending.is_none()
    }

    /// Its worker is heard of, or attaches again.
    pub(super) fn renew(&mut self, config: &Config, now: Now) {
        self.expires_at = now + config.lease;
        self.reclaimable_at = None;
        self.restored = false;
    }

    /// Takes its worker's report.
    pub(super) fn report(&mut self, progress: Progress, config: &Config, now: Now) {
        self.renew(config, now);
        // Speed and running means change without any progress of the task.
        let place = |p: &Progress| (p.phase, p.epoch, p.step);
        if self.progress.as_ref().map(place) != Some(place(&progress)) {
            self.last_progress_at = now;
        }
        let known = self
            .epoch_start
            .filter(|start| start.epoch == progress.epoch);
        self.epoch_start = match progress.phase {
            Phase::Training => Some(known.unwrap_or(EpochStart {
                epoch: progress.epoch,
                step: progress.step,
                at: now,
            })),
            _ => known,
        };
        self.reported_at = now;
        self.progress = Some(progress);
    }

    /// How long the epoch takes that is being trained, judged by the part of it that was seen. `None` while
    /// that is too little to tell.
    #[must_use]
    pub fn epoch_time(&self) -> Option<Duration> {
        let (start, progress) = (self.epoch_start?, self.progress?);
        let part = match progress.phase {
            Phase::Training if progress.steps > 0 => {
                let steps = progress.step.saturating_sub(start.step);
                f64::from(steps) / f64::from(progress.steps)
            }
            // What of it was not seen is taken for short.
            Phase::Validating => 1.0,
            _ => return None,
        };
        let seen = self.reported_at.since(start.at).as_secs_f64();
        if part < LEAST_PART || seen <= 0.0 {
            return None;
        }
        Duration::try_from_secs_f64(seen / part).ok()
    }

    /// Its worker's connection has ended. No spare takes the task over before `earliest`.
    pub(super) fn disconnect(&mut self, config: &Config, earliest: Now, now: Now) {
        self.reclaimable_at = Some(earliest.max(now + config.reattach_grace));
    }

    /// So many bytes of an upload have come. They are progress only beyond what an earlier try brought: a
    /// worker that tries again without end is to be noticed.
    pub(super) fn report_upload(
        &mut self,
        position: Position,
        bytes: u64,
        config: &Config,
        now: Now,
    ) {
        let upload = Some((position, bytes));
        if self.uploaded < upload {
            self.uploaded = upload;
            self.last_progress_at = now;
            // Heartbeats may wait behind the bytes.
            self.expires_at = self.expires_at.max(now + config.lease);
        }
    }

    /// Begins a transaction. Its worker's request is a sign of life, but no progress yet.
    pub(super) fn pin(&mut self, pin: Pin, config: &Config, now: Now) -> Result<(), Refusal> {
        if self.pin.is_some() {
            return Err(Refusal::Busy {
                lease: self.id.clone(),
            });
        }
        self.pin = Some(pin);
        self.expires_at = self.expires_at.max(now + config.lease);
        self.restored = false;
        Ok(())
    }

    /// When and why the lease will expire; never while it is pinned.
    pub(super) fn expiry(&self, config: &Config) -> Option<(Now, ExpiryReason)> {
        if self.pin.is_some() {
            return None;
        }
        let stuck_at = self.last_progress_at + config.progress_timeout;
        Some(if stuck_at < self.expires_at {
            (stuck_at, ExpiryReason::NoProgress(config.progress_timeout))
        } else {
            (self.expires_at, ExpiryReason::Silent(config.lease))
        })
    }

    /// Since when a spare worker may take the task over; never while the lease is pinned.
    pub(super) fn reclaimable_since(&self, now: Now) -> Option<Now> {
        let reclaimable = self.reclaimable_at.filter(|at| *at <= now);
        reclaimable.filter(|_| self.pin.is_none())
    }

    /// Why the lease ends when a spare worker takes the task over.
    pub(super) fn reclaim_reason(&self, config: &Config) -> ExpiryReason {
        ExpiryReason::Disconnected(match self.is_restored() {
            true => config.recovery_grace,
            false => config.reattach_grace,
        })
    }

    /// How long the task has made no progress, if that is long.
    #[must_use]
    pub fn stalled(&self, config: &Config, now: Now) -> Option<Duration> {
        let stalled = now.since(self.last_progress_at);
        (self.is_live() && stalled >= config.stall_after).then_some(stalled)
    }

    /// The same, once until the task makes progress again.
    pub(super) fn report_stall(&mut self, config: &Config, now: Now) -> Option<Duration> {
        let stalled = self.stalled(config, now)?;
        let reported = self.stall_reported.replace(self.last_progress_at);
        (reported != self.stall_reported).then_some(stalled)
    }

    /// When a stall is to be reported, unless that has happened.
    pub(super) fn stall_due(&self, config: &Config) -> Option<Now> {
        let due = self.last_progress_at + config.stall_after;
        let reported = self.stall_reported == Some(self.last_progress_at);
        (self.is_live() && !reported).then_some(due)
    }

    /// Whether an older coordinator granted the lease and its worker has not come back yet.
    pub(super) fn is_restored(&self) -> bool {
        self.restored
    }

    /// The name of its worker, if an older coordinator granted the lease.
    #[must_use]
    pub fn recorded_name(&self) -> Option<&str> {
        self.recorded_name.as_deref()
    }

    /// The hash of the secret of its worker, if an older coordinator granted the lease and knew it.
    pub(super) fn recorded_secret(&self) -> Option<&SecretHash> {
        self.recorded_secret.as_ref()
    }

    /// How long its worker, which is not connected, may take at most to come back.
    #[must_use]
    pub fn awaited(&self, now: Now) -> Option<Duration> {
        self.reclaimable_at?;
        Some(self.expires_at.since(now))
    }
}
