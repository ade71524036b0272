//! Transactions: writes to the store under a lease, between a `begin_` and an `end_`.
//!
//! Each pins its lease for that time, so that nothing under another lease can be written meanwhile.
//! The `begin_` half checks the lease and returns a ticket, the shell writes, and the `end_` half takes
//! the ticket back together with the result.
//!
//! - `grant`: the record of a new lease, whose `begin_` half is [`Scheduler::assign`]
//! - `commit`: the manifest of a checkpoint
//! - `keep`: what a member of the ensemble predicts
//! - `complete`: the result of a task
//! - `rollback`: a corrupt checkpoint's manifests are taken out of use
//! - `catch_up`: what an older coordinator wrote late

mod catch_up;
mod commit;
mod complete;
mod grant;
mod keep;
mod rollback;

use quartet_shared::position::Position;
use quartet_shared::task::LeaseId;

use super::Scheduler;
use super::lease::{Lease, Pin};
use super::refusal::Refusal;
use super::time::Now;

pub use commit::{CommitEnd, CommitTicket};
pub use complete::CompleteTicket;
pub use keep::KeepTicket;
pub use rollback::RollbackTicket;

impl Scheduler {
    /// Whether a lease is live.
    pub fn check_lease(&self, lease: &LeaseId) -> Result<(), Refusal> {
        self.record(&lease.task)?.live(lease).map(drop)
    }

    /// So many bytes of a commit's files, or of predictions, have come.
    pub fn report_upload(&mut self, lease: &LeaseId, position: Position, bytes: u64, now: Now) {
        let config = self.config;
        for pin in [Pin::Commit(position), Pin::Keep(position)] {
            if let Some(pinned) = self.pinned(lease, pin) {
                pinned.report_upload(position, bytes, &config, now);
            }
        }
    }

    /// Keeps a live lease from ending.
    fn pin(&mut self, id: &LeaseId, pin: Pin, now: Now) -> Result<(), Refusal> {
        let config = self.config;
        let lease = self.record_mut(&id.task)?.live_mut(id)?;
        lease.pin(pin, &config, now)
    }

    /// The lease that a transaction has pinned.
    fn pinned(&mut self, id: &LeaseId, pin: Pin) -> Option<&mut Lease> {
        let lease = self.record_mut(&id.task).ok()?.leased_mut()?;
        (lease.id == *id && lease.pin == Some(pin)).then_some(lease)
    }

    /// Removes the pin. The lease ends if an ending waited for that.
    fn unpin(&mut self, id: &LeaseId, now: Now) {
        let config = self.config;
        let record = self.record_mut(&id.task).ok();
        if let Some(ended) = record.and_then(|record| record.unpin(&config, now)) {
            self.note_ended(ended);
            self.unblock_evaluation();
        }
    }
}
