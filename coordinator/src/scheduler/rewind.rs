//! Where the store is not where this scheduler thinks: the newest checkpoint turned out to be corrupt, or an older coordinator wrote
//! one late.

use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::position::Position;
use quartet_shared::task::{LeaseId, Task};

use super::Scheduler;
use super::commit::CommitTicket;
use super::config::{CommittedEpoch, Now};
use super::refusal::Refusal;
use super::state::{Ending, Pin, TaskState};

/// Where a run is in the store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The last committed epoch.
    pub committed: Option<(Epoch, CommittedEpoch)>,
    /// Committed steps of the epoch after it.
    pub step: u32,
}

impl Found {
    /// How far the run is.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            epoch: self.committed.map_or(Epoch(0), |(epoch, _)| epoch),
            step: self.step,
        }
    }
}

/// The right to take manifests of a run out of the store. Has to be handed back to [`Scheduler::end_rewind`], whatever comes of
/// it: until then the task is not leased again.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease stays pinned until its ticket is handed back"]
pub struct RewindTicket {
    lease: LeaseId,
}

impl Scheduler {
    /// A worker says that a checkpoint is corrupt which its task needs.
    pub fn begin_rewind(&mut self, lease: &LeaseId, now: Now) -> Result<RewindTicket, Refusal> {
        self.pin(lease, Pin::Rewind, now)?;
        Ok(RewindTicket {
            lease: lease.clone(),
        })
    }

    /// A rewind has ended. With `Some`, the run is at an earlier position now, and what was not known to be finished any more is
    /// done again: the run, and the evaluation after it. The lease ends either way: as a failure of its worker with `None`,
    /// because the store's bytes are sound.
    pub fn end_rewind(
        &mut self,
        ticket: RewindTicket,
        rewound: Option<(RunName, Found)>,
        reason: String,
        now: Now,
    ) {
        let RewindTicket { lease } = ticket;
        let config = self.config;
        if self.pinned(&lease, Pin::Rewind).is_none() {
            return;
        }
        if let Ok(record) = self.record_mut(&lease.task) {
            record.unpin(&config, now);
        }
        let Some((name, found)) = rewound else {
            self.end_failed(&lease, reason, now);
            return;
        };
        self.end_lease(&lease, Ending::HandedBack, now);
        if let Some(run) = self.run_mut(&name) {
            (run.committed, run.step) = (found.committed, found.step);
            run.record.note(reason);
            if matches!(run.record.state, TaskState::Finished(_)) {
                run.record.state = TaskState::Pending { not_before: now };
            }
        }
        self.block_evaluation();
    }

    /// Whether the run of a live lease is further in the store, where it was `found`, than this scheduler knew: an older coordinator
    /// wrote what was in its hands after this one had read the store. The lease goes on, from there.
    pub fn catch_up(&mut self, lease: &LeaseId, found: Found) -> Result<bool, Refusal> {
        let live = self.record(&lease.task)?.live(lease)?;
        if live.pin.is_some_and(|pin| pin != Pin::Grant) {
            return Err(Refusal::Busy {
                lease: lease.clone(),
            });
        }
        let Task::Train(name) = &lease.task else {
            return Ok(false);
        };
        let Some(run) = self.run_mut(name) else {
            return Ok(false);
        };
        let behind = run.position() < found.position();
        if behind {
            (run.committed, run.step) = (found.committed, found.step);
            run.record.forgive();
        }
        Ok(behind)
    }

    /// A commit found that the store is ahead of this scheduler: an older coordinator wrote it after this one had
    /// read the store. The run goes on from there, under a new lease.
    pub fn supersede(&mut self, ticket: CommitTicket, found: Found, now: Now) {
        let (lease, position) = ticket.into_parts();
        let config = self.config;
        if self.pinned(&lease, Pin::Commit(position)).is_none() {
            return;
        }
        let Task::Train(name) = &lease.task else {
            return;
        };
        let Some(run) = self.run_mut(name) else {
            return;
        };
        let before: Position = run.position();
        if found.position() > before {
            (run.committed, run.step) = (found.committed, found.step);
        }
        run.record.unpin(&config, now);
        self.end_lease(&lease, Ending::HandedBack, now);
    }
}
