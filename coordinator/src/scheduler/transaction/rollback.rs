//! Rollbacks: a checkpoint turned out to be corrupt, and its run goes back to a sound one.

use quartet_shared::event::Occurrence;
use quartet_shared::ids::RunName;
use quartet_shared::task::LeaseId;

use crate::scheduler::Scheduler;
use crate::scheduler::lease::{Ending, Pin};
use crate::scheduler::refusal::Refusal;
use crate::scheduler::run::Committed;
use crate::scheduler::time::Now;

/// The right to take manifests of a run out of use. Must be handed back to [`Scheduler::end_rollback`],
/// whatever comes of it: until then the task is not leased again.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease stays pinned until its ticket is handed back"]
pub struct RollbackTicket {
    lease: LeaseId,
    reason: String,
}

impl Scheduler {
    /// A worker reports that a checkpoint which its task needs is corrupt; `reason` says how.
    pub fn begin_rollback(
        &mut self,
        lease: &LeaseId,
        reason: String,
        now: Now,
    ) -> Result<RollbackTicket, Refusal> {
        self.pin(lease, Pin::Rollback, now)?;
        Ok(RollbackTicket {
            lease: lease.clone(),
            reason,
        })
    }

    /// A rollback has ended. With `Some`, the run is at an earlier position: it is trained again from
    /// there, and the evaluation waits for it. With `None`, the store's bytes are sound, and the worker
    /// has failed. The lease ends either way.
    pub fn end_rollback(
        &mut self,
        ticket: RollbackTicket,
        rolled_back: Option<(RunName, Committed)>,
        now: Now,
    ) {
        let RollbackTicket { lease, reason } = ticket;
        if self.pinned(&lease, Pin::Rollback).is_none() {
            return;
        }
        self.unpin(&lease, now);
        let Some((name, committed)) = rolled_back else {
            return self.end_failed(&lease, reason.into(), now);
        };
        self.end_lease(&lease, Ending::HandedBack, now);
        if let Some(run) = self.run_mut(&name) {
            run.roll_back(committed, reason.clone(), now);
        }
        self.note(Occurrence::RolledBack {
            run: name,
            to: committed.position,
            reason,
        });
        self.block_evaluation();
    }
}
