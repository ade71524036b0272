//! Commits: the manifest of a checkpoint, at the end of an epoch or mid-epoch.

use quartet_shared::position::Position;
use quartet_shared::task::{LeaseId, Task};

use crate::scheduler::Scheduler;
use crate::scheduler::lease::Pin;
use crate::scheduler::refusal::Refusal;
use crate::scheduler::run::{Committed, CommittedEpoch};
use crate::scheduler::time::Now;

/// The right to write one manifest. Must be handed back to [`Scheduler::end_commit`], whatever comes of
/// it: until then the task is not leased again.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease stays pinned until its ticket is handed back"]
pub struct CommitTicket {
    pub(super) lease: LeaseId,
    pub(super) position: Position,
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CommitEnd {
    /// The manifest of an epoch is in the store.
    Epoch(CommittedEpoch),
    /// The manifest of a mid-epoch checkpoint is in the store.
    MidEpoch,
    /// The commit was given up.
    GivenUp,
}

impl Scheduler {
    /// A worker wants to commit a checkpoint at `position`. The shell may write its manifest with the
    /// ticket in hand.
    pub fn begin_commit(
        &mut self,
        lease: &LeaseId,
        position: Position,
        now: Now,
    ) -> Result<CommitTicket, Refusal> {
        self.check_lease(lease)?;
        let task = lease.task.clone();
        let run = match &task {
            Task::Train(name) => self.run(name),
            Task::Evaluate => None,
        };
        let Some(run) = run else {
            return Err(Refusal::NoSuchPosition { task, position });
        };
        // The epoch that the checkpoint belongs to.
        let epoch = match position.step {
            0 => position.epoch,
            _ => position.epoch.next(),
        };
        if position <= Position::default() || epoch.0 > run.settings.epochs {
            return Err(Refusal::NoSuchPosition { task, position });
        }
        let last = run.position();
        if position <= last {
            return Err(Refusal::AlreadyCommitted { task, position });
        }
        let expected = last.epoch.next();
        if epoch > expected {
            return Err(Refusal::OutOfOrder {
                task,
                position,
                expected,
            });
        }
        self.pin(lease, Pin::Commit(position), now)?;
        Ok(CommitTicket {
            lease: lease.clone(),
            position,
        })
    }

    /// A commit has ended: the manifest is in the store, or the commit was given up.
    pub fn end_commit(&mut self, ticket: CommitTicket, end: CommitEnd, now: Now) {
        let CommitTicket { lease, position } = ticket;
        let Some(pinned) = self.pinned(&lease, Pin::Commit(position)) else {
            return;
        };
        if end != CommitEnd::GivenUp {
            pinned.last_progress_at = now;
        }
        let Some(run) = self.run_of_mut(&lease) else {
            return;
        };
        match end {
            CommitEnd::Epoch(result) => run.commit(Committed::end_of(position.epoch, result)),
            CommitEnd::MidEpoch => run.commit(run.committed.with_step(position.step)),
            CommitEnd::GivenUp => return self.unpin(&lease, now),
        }
        self.unpin(&lease, now);
        self.reset_worker(&lease);
    }
}
