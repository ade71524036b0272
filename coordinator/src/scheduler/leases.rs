//! How leases end other than by completion, and when to look again.

use std::fmt;
use std::time::Duration;

use quartet_shared::task::LeaseId;

use super::Scheduler;
use super::config::Now;
use super::refusal::Refusal;
use super::state::{Ending, Lease, TaskRecord, TaskState, WorkerState};

/// What becomes of a task that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailDecision {
    /// It is tried again.
    Retry {
        /// Not before then.
        not_before: Now,
        /// Failures so far.
        failures: u32,
    },
    /// Its budget is spent: it has failed for good.
    Final,
}

impl fmt::Display for FailDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { failures, .. } => {
                write!(f, "it is tried again after failure {failures}")
            }
            Self::Final => f.write_str("it is given up"),
        }
    }
}

/// A lease that has run out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The lease, to be revoked.
    pub lease: LeaseId,
    /// Why.
    pub reason: ExpiryReason,
}

/// Why a lease has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryReason {
    /// No heartbeat named it for this long.
    Silent(Duration),
    /// Its worker's connection ended, and it did not come back for this long.
    Disconnected(Duration),
    /// Its worker lives, but the task did not move for this long.
    NoProgress(Duration),
}

impl fmt::Display for ExpiryReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(lease) => write!(f, "no heartbeat for {lease:?}"),
            Self::Disconnected(grace) => {
                write!(
                    f,
                    "its worker was disconnected and did not come back within {grace:?}"
                )
            }
            Self::NoProgress(timeout) => write!(f, "no progress for {timeout:?}"),
        }
    }
}

impl Scheduler {
    /// A task has failed on its worker, which becomes idle.
    pub fn fail(
        &mut self,
        lease: &LeaseId,
        reason: String,
        now: Now,
    ) -> Result<FailDecision, Refusal> {
        let record = self.record(&lease.task)?;
        record.live(lease)?;
        let failures = record.failures + 1;
        let decision = if record.would_be_spent(&lease.worker, &self.config) {
            FailDecision::Final
        } else {
            let not_before = now + self.config.backoff_after(failures);
            FailDecision::Retry {
                not_before,
                failures,
            }
        };
        self.end_failed(lease, reason, now);
        Ok(decision)
    }

    /// Ends a live lease as a failure, of the task and of its worker.
    pub(super) fn end_failed(&mut self, lease: &LeaseId, reason: String, now: Now) {
        if let Some(worker) = self.workers.get_mut(&lease.worker) {
            worker.failed.insert(lease.task.clone());
        }
        self.end_lease(lease, Ending::Failed(reason), now);
    }

    /// A task cannot be done by any worker, because what it was given is wrong: it has failed for good.
    pub fn reject(&mut self, lease: &LeaseId, reason: String, now: Now) -> Result<(), Refusal> {
        self.record(&lease.task)?.live(lease)?;
        self.end_lease(lease, Ending::Rejected(reason), now);
        Ok(())
    }

    /// A worker that shuts down hands its task back. This counts against nothing, and the worker gets
    /// no more tasks.
    pub fn release(&mut self, lease: &LeaseId, now: Now) -> Result<(), Refusal> {
        self.check(lease)?;
        if let Some(worker) = self.workers.get_mut(&lease.worker) {
            worker.draining = true;
        }
        self.end_lease(lease, Ending::HandedBack, now);
        Ok(())
    }

    /// Loses workers that are silent, and ends the leases that have run out, then those that spare workers can have.
    #[must_use]
    pub fn expire_leases(&mut self, now: Now) -> Vec<Expired> {
        let Self {
            config, workers, ..
        } = self;
        for worker in workers.values_mut() {
            let free = matches!(worker.state, WorkerState::Idle | WorkerState::Draining);
            if free && worker.last_seen + config.lease <= now {
                worker.state = WorkerState::Lost;
            }
        }
        let leases = self.records().filter_map(|record| record.lease());
        let mut expired: Vec<_> = leases
            .filter_map(|lease| {
                let (_, reason) = self.expiry(lease).filter(|(at, _)| *at <= now)?;
                Some(Expired {
                    lease: lease.id.clone(),
                    reason,
                })
            })
            .collect();
        for expired in &expired {
            self.take_away(expired, now);
        }
        while let Some(reclaimed) = self.reclaimable(now) {
            self.take_away(&reclaimed, now);
            expired.push(reclaimed);
        }
        self.workers.retain(|_, worker| {
            worker.state != WorkerState::Lost || worker.last_seen + self.config.forget_after > now
        });
        expired
    }

    fn take_away(&mut self, Expired { lease, reason }: &Expired, now: Now) {
        self.end_lease(lease, Ending::Lost(reason.to_string()), now);
        // Not idle before it says so: it may not know yet that the lease has ended.
        self.set_state(&lease.worker, WorkerState::Lost);
    }

    /// When [`expire_leases`](Self::expire_leases), [`report_stalls`](Self::report_stalls) or [`assign`](Self::assign) will
    /// next have something to do if nothing happens before. Always in the future once they have been called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Now> {
        let idle = self.idle().next().is_some();
        let leases = self.records().filter_map(TaskRecord::lease);
        let leases = leases.filter_map(|lease| {
            let (at, _) = self.expiry(lease)?;
            let reclaimed = lease.reclaimable_at.filter(|_| idle);
            Some(reclaimed.map_or(at, |reclaimed| reclaimed.min(at)))
        });
        let stalls = self.records().filter_map(TaskRecord::lease);
        let stalls = stalls.filter_map(|lease| lease.stall_due(&self.config));
        let free = |state: &WorkerState| matches!(state, WorkerState::Idle | WorkerState::Draining);
        let workers = self.workers.values().filter(|worker| free(&worker.state));
        let workers = workers.map(|worker| worker.last_seen + self.config.lease);
        // A task that is ready already waits for a worker, not for the time.
        let waits = self.records().filter_map(|record| match record.state {
            TaskState::Pending { not_before } => Some(not_before),
            _ => None,
        });
        let waits = waits.filter(|_| idle);
        leases.chain(stalls).chain(workers).chain(waits).min()
    }

    /// The lease that has waited longest for a worker that is not connected and did not come back in time, if a spare
    /// worker stands by that no ready task needs. The task need not become ready: this may have been its last loss.
    fn reclaimable(&self, now: Now) -> Option<Expired> {
        let leases = self.records().filter_map(TaskRecord::lease);
        let leases = leases.filter(|lease| lease.pin.is_none());
        let due =
            leases.filter_map(|lease| Some((lease.reclaimable_at.filter(|at| *at <= now)?, lease)));
        let (_, lease) = due.min_by_key(|(at, _)| *at)?;
        let spare = self.idle().count() > self.ready_tasks(now).len();
        spare.then(|| Expired {
            lease: lease.id.clone(),
            reason: ExpiryReason::Disconnected(if lease.restored.is_some() {
                self.config.recovery_grace
            } else {
                self.config.reattach_grace
            }),
        })
    }

    /// When and why a lease will run out; never while it is pinned.
    fn expiry(&self, lease: &Lease) -> Option<(Now, ExpiryReason)> {
        if lease.pin.is_some() {
            return None;
        }
        let stuck_at = lease.last_progress_at + self.config.progress_timeout;
        if stuck_at < lease.expires_at {
            Some((
                stuck_at,
                ExpiryReason::NoProgress(self.config.progress_timeout),
            ))
        } else {
            Some((lease.expires_at, ExpiryReason::Silent(self.config.lease)))
        }
    }
}
