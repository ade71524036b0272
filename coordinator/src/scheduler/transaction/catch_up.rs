//! The store is ahead of this scheduler: an older coordinator wrote a manifest after this one had read
//! the store.

use quartet_shared::task::LeaseId;

use super::CommitTicket;
use crate::scheduler::Scheduler;
use crate::scheduler::lease::{Ending, Pin};
use crate::scheduler::refusal::Refusal;
use crate::scheduler::run::Committed;
use crate::scheduler::time::Now;

impl Scheduler {
    /// Moves the run of a live lease to where it is in the store, if that is further than this scheduler
    /// knew, and says whether it is. The lease goes on from there.
    pub fn catch_up(&mut self, lease: &LeaseId, stored: Committed) -> Result<bool, Refusal> {
        let live = self.record(&lease.task)?.live(lease)?;
        if live.pin.is_some_and(|pin| pin != Pin::Grant) {
            return Err(Refusal::Busy {
                lease: lease.clone(),
            });
        }
        let Some(run) = self.run_of_mut(lease) else {
            return Ok(false);
        };
        let behind = run.position() < stored.position;
        if behind {
            run.commit(stored);
        }
        Ok(behind)
    }

    /// Ends a commit whose manifest an older coordinator has written. The run goes on from where it is
    /// in the store, under a new lease.
    pub fn supersede(&mut self, ticket: CommitTicket, stored: Committed, now: Now) {
        let CommitTicket { lease, position } = ticket;
        if self.pinned(&lease, Pin::Commit(position)).is_none() {
            return;
        }
        if let Some(run) = self.run_of_mut(&lease)
            && run.position() < stored.position
        {
            run.committed = stored;
        }
        self.unpin(&lease, now);
        self.end_lease(&lease, Ending::HandedBack, now);
    }
}
