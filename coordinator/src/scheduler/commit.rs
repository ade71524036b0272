//! Commits and completions. Both write to the store between a beginning and an end, and pin their
//! lease for that time: nothing under another lease can be written meanwhile.

use quartet_shared::position::Position;
use quartet_shared::task::{LeaseId, Task};

use super::Scheduler;
use super::config::{CommittedEpoch, Now};
use super::refusal::Refusal;
use super::state::{Completion, Lease, Pin, TaskState};

/// The right to write one manifest, of an epoch or within one. Has to be handed back to [`Scheduler::end_commit`], whatever
/// comes of it: until then the task is not leased again.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease stays pinned until its ticket is handed back"]
pub struct CommitTicket {
    lease: LeaseId,
    position: Position,
}

impl CommitTicket {
    pub(super) fn into_parts(self) -> (LeaseId, Position) {
        (self.lease, self.position)
    }
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CommitEnd {
    /// The manifest of an epoch is in the store.
    Epoch(CommittedEpoch),
    /// The manifest of a state within an epoch is in the store.
    Step,
    /// It was given up.
    GivenUp,
}

/// The right to write a task's result. Has to be handed back to [`Scheduler::end_complete`], whatever
/// comes of it: until then the task is not leased again.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease stays pinned until its ticket is handed back"]
pub struct CompleteTicket {
    lease: LeaseId,
}

impl Scheduler {
    /// Whether a lease is live.
    pub fn check(&self, lease: &LeaseId) -> Result<(), Refusal> {
        self.record(&lease.task)?.live(lease).map(drop)
    }

    /// A worker wants to commit the end of an epoch, or a state within one; the shell may write its manifest with the
    /// ticket in hand.
    pub fn begin_commit(
        &mut self,
        lease: &LeaseId,
        position: Position,
        now: Now,
    ) -> Result<CommitTicket, Refusal> {
        self.check(lease)?;
        let task = lease.task.clone();
        let run = match &task {
            Task::Train(name) => self.run(name),
            Task::Evaluate => None,
        };
        let Some(run) = run else {
            return Err(Refusal::NoSuchPosition { task, position });
        };
        let last = run.position();
        let within = position.step > 0;
        if position <= Position::default() || position.epoch.0 + u32::from(within) > run.plan.epochs
        {
            return Err(Refusal::NoSuchPosition { task, position });
        }
        if position <= last {
            return Err(Refusal::AlreadyCommitted { task, position });
        }
        let expected = last.epoch.next();
        let epoch = if within {
            position.epoch.next()
        } else {
            position.epoch
        };
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

    /// A commit has ended: the manifest is in the store, or it was given up. `epoch` is what the end of an epoch says; a
    /// state within one has nothing to say.
    pub fn end_commit(&mut self, ticket: CommitTicket, end: CommitEnd, now: Now) {
        let (id, position) = ticket.into_parts();
        let config = self.config;
        let Some(lease) = self.pinned(&id, Pin::Commit(position)) else {
            return;
        };
        if end != CommitEnd::GivenUp {
            lease.last_progress_at = now;
        }
        let Task::Train(name) = &id.task else { return };
        let Some(run) = self.run_mut(name) else {
            return;
        };
        match end {
            CommitEnd::Epoch(committed) => {
                (run.committed, run.step) = (Some((position.epoch, committed)), 0);
            }
            CommitEnd::Step => run.step = position.step,
            CommitEnd::GivenUp => {}
        }
        if end != CommitEnd::GivenUp {
            run.record.forgive();
        }
        run.record.unpin(&config, now);
        if end != CommitEnd::GivenUp {
            self.absolve(&id);
        }
    }

    /// The worker of a lease has succeeded: failures of before say nothing against it.
    fn absolve(&mut self, lease: &LeaseId) {
        if let Some(worker) = self.workers.get_mut(&lease.worker) {
            worker.failed.clear();
        }
    }

    /// A worker wants to end its task; the shell may write the result with the ticket in hand. `None`
    /// when this lease has ended the task already: the worker asks again because it did not hear so.
    pub fn begin_complete(
        &mut self,
        lease: &LeaseId,
        now: Now,
    ) -> Result<Option<CompleteTicket>, Refusal> {
        let record = self.record(&lease.task)?;
        if matches!(record.state, TaskState::Finished(_)) {
            let same = record.newest.as_ref() == Some(lease);
            let refusal = || Refusal::Ended {
                task: lease.task.clone(),
            };
            return if same { Ok(None) } else { Err(refusal()) };
        }
        record.live(lease)?;
        if let Task::Train(name) = &lease.task
            && let Some(run) = self.run(name)
            && !run.is_trained()
        {
            let (task, committed) = (lease.task.clone(), run.last_epoch());
            return Err(Refusal::Incomplete { task, committed });
        }
        self.pin(lease, Pin::Complete, now)?;
        Ok(Some(CompleteTicket {
            lease: lease.clone(),
        }))
    }

    /// A completion has ended: `Some` when the result is in the store, `None` when it was given up.
    pub fn end_complete(
        &mut self,
        ticket: CompleteTicket,
        completion: Option<Completion>,
        now: Now,
    ) {
        let CompleteTicket { lease } = ticket;
        let config = self.config;
        if self.pinned(&lease, Pin::Complete).is_none() {
            return;
        }
        let Ok(record) = self.record_mut(&lease.task) else {
            return;
        };
        match completion {
            Some(completion) => {
                record.finish(completion);
                self.absolve(&lease);
                self.free_worker(&lease);
                self.unblock_evaluation();
            }
            None => record.unpin(&config, now),
        }
    }

    /// Keeps a live lease from ending. That its worker asks is a sign of life.
    pub(super) fn pin(&mut self, id: &LeaseId, pin: Pin, now: Now) -> Result<(), Refusal> {
        let expires_at = now + self.config.lease;
        let lease = self.record_mut(&id.task)?.live_mut(id)?;
        if lease.pin.is_some() {
            return Err(Refusal::Busy { lease: id.clone() });
        }
        lease.pin = Some(pin);
        lease.expires_at = lease.expires_at.max(expires_at);
        lease.restored = None;
        lease.last_progress_at = now;
        Ok(())
    }

    pub(super) fn pinned(&mut self, id: &LeaseId, pin: Pin) -> Option<&mut Lease> {
        let lease = self.record_mut(&id.task).ok()?.leased_mut()?;
        (lease.id == *id && lease.pin == Some(pin)).then_some(lease)
    }
}
