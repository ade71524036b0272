//! Tasks that stand still on live workers: told of first, taken away later.

use std::time::Duration;

use quartet_shared::task::LeaseId;

use super::Scheduler;
use super::config::{Config, Now};
use super::state::{Lease, TaskRecord};

impl Scheduler {
    /// The leases whose tasks have not moved for [`Config::stall_after`], and for how long; each once until it moves.
    #[must_use]
    pub fn report_stalls(&mut self, now: Now) -> Vec<(LeaseId, Duration)> {
        let config = self.config;
        let leases = self.records_mut().filter_map(TaskRecord::leased_mut);
        let stalls = leases.filter_map(|lease| {
            let stalled = lease.stalled(&config, now)?;
            let told = lease.stall_told.replace(lease.last_progress_at);
            (told != lease.stall_told).then(|| (lease.id.clone(), stalled))
        });
        stalls.collect()
    }
}

impl Lease {
    /// For how long the task has stood still, if that is long.
    #[must_use]
    pub fn stalled(&self, config: &Config, now: Now) -> Option<Duration> {
        let stalled = now.since(self.last_progress_at);
        (self.ending.is_none() && stalled >= config.stall_after).then_some(stalled)
    }

    /// When it will have stood still for so long that someone should hear of it, unless that has happened.
    pub(super) fn stall_due(&self, config: &Config) -> Option<Now> {
        let due = self.last_progress_at + config.stall_after;
        let told = self.stall_told == Some(self.last_progress_at);
        (self.ending.is_none() && !told).then_some(due)
    }
}
