//! What happens as time passes: leases expire, spares take tasks over, stalls are reported.

use std::time::Duration;

use quartet_shared::event::Occurrence;
use quartet_shared::task::LeaseId;

use super::Scheduler;
use super::lease::{Ending, ExpiryReason};
use super::task::{TaskRecord, TaskStage};
use super::time::Now;
use super::worker::WorkerStage;

/// A lease that has expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The lease, to be revoked.
    pub lease: LeaseId,
    /// Why it expired.
    pub reason: ExpiryReason,
}

impl Scheduler {
    /// Loses workers that are silent. Ends the leases that have expired, then those whose tasks spare
    /// workers can take over.
    #[must_use]
    pub fn expire_leases(&mut self, now: Now) -> Vec<Expired> {
        let config = self.config;
        let mut silent = Vec::new();
        for worker in self.workers.values_mut() {
            if worker.is_free() && worker.last_seen + config.lease <= now {
                worker.stage = WorkerStage::Lost;
                silent.push(worker.info.id.clone());
            }
        }
        for worker in silent {
            self.note_of(&worker, |worker| Occurrence::WorkerLost { worker });
        }
        let leases = self.records().filter_map(TaskRecord::lease);
        let mut expired: Vec<_> = leases
            .filter_map(|lease| {
                let (_, reason) = lease.expiry(&config).filter(|(at, _)| *at <= now)?;
                let lease = lease.id.clone();
                Some(Expired { lease, reason })
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
            worker.stage != WorkerStage::Lost || worker.last_seen + config.forget_after > now
        });
        expired
    }

    fn take_away(&mut self, Expired { lease, reason }: &Expired, now: Now) {
        let told = match reason {
            ExpiryReason::NoProgress(_) => format!("made {reason}"),
            ExpiryReason::Silent(_) | ExpiryReason::Disconnected(_) => {
                format!("was lost: {reason}")
            }
        };
        self.end_lease(lease, Ending::Lost(self.loss(lease, &told)), now);
        // Not idle before it says so: it may not know yet that the lease has ended.
        self.set_stage(&lease.worker, WorkerStage::Lost);
        if !matches!(reason, ExpiryReason::NoProgress(_)) {
            self.note_of(&lease.worker, |worker| Occurrence::WorkerLost { worker });
        }
    }

    /// The lease that has waited longest for a worker that did not come back in time, if a spare worker
    /// stands by that no ready task needs. The task need not become ready: this may have been its last
    /// loss.
    fn reclaimable(&self, now: Now) -> Option<Expired> {
        let leases = self.records().filter_map(TaskRecord::lease);
        let due = leases.filter_map(|lease| Some((lease.reclaimable_since(now)?, lease)));
        let (_, lease) = due.min_by_key(|(at, _)| *at)?;
        let spare = self.idle().count() > self.ready_tasks(now).len();
        spare.then(|| Expired {
            lease: lease.id.clone(),
            reason: lease.reclaim_reason(&self.config),
        })
    }

    /// The leases whose tasks have made no progress for the configured time, and for how long. Each is
    /// reported once until its task makes progress again.
    #[must_use]
    pub fn report_stalls(&mut self, now: Now) -> Vec<(LeaseId, Duration)> {
        let config = self.config;
        let leases = self.records_mut().filter_map(TaskRecord::leased_mut);
        let stalls = leases.filter_map(|lease| {
            let stalled = lease.report_stall(&config, now)?;
            Some((lease.id.clone(), stalled))
        });
        stalls.collect()
    }

    /// When [`expire_leases`](Self::expire_leases), [`report_stalls`](Self::report_stalls) or
    /// [`assign`](Self::assign) next has something to do if nothing happens before. Always in the future
    /// once they have been called.
    #[must_use]
    pub fn next_deadline(&self, now: Now) -> Option<Now> {
        let config = &self.config;
        let idle = self.idle().next().is_some();
        let leases = self.records().filter_map(TaskRecord::lease);
        let expiries = leases.filter_map(|lease| {
            let (at, _) = lease.expiry(config)?;
            let reclaimed = lease.reclaimable_at.filter(|_| idle);
            Some(reclaimed.map_or(at, |reclaimed| reclaimed.min(at)))
        });
        let leases = self.records().filter_map(TaskRecord::lease);
        let stalls = leases.filter_map(|lease| lease.stall_due(config));
        let workers = self.workers.values().filter(|worker| worker.is_free());
        let silences = workers.map(|worker| worker.last_seen + config.lease);
        // A task that is ready already waits for a worker, not for the time: those that are idle may be left
        // to others.
        let waits = self.records().filter_map(|record| match record.stage {
            TaskStage::Pending { not_before }
                if not_before > now && !self.waits_for_another(record) =>
            {
                Some(not_before)
            }
            _ => None,
        });
        let waits = waits.filter(|_| idle);
        expiries.chain(stalls).chain(silences).chain(waits).min()
    }
}
