//! The end of a grant: the lease is recorded, or could not be.

use quartet_shared::task::LeaseId;

use crate::scheduler::Scheduler;
use crate::scheduler::lease::{Ending, Pin};
use crate::scheduler::refusal::Refusal;
use crate::scheduler::time::Now;

impl Scheduler {
    /// The record of a new lease is in the store, or could not be written. With `Ok` the worker is to be
    /// told; with an error the lease has ended.
    pub fn end_grant(&mut self, id: &LeaseId, recorded: bool, now: Now) -> Result<(), Refusal> {
        let config = self.config;
        if let Some(lease) = self.pinned(id, Pin::Grant) {
            lease.last_progress_at = now;
            lease.expires_at = now + config.lease;
            self.unpin(id, now);
            if !recorded {
                self.end_lease(id, Ending::Unrecorded, now);
            }
        }
        self.check_lease(id)
    }
}
