//! Completions: the result of a task.

use quartet_shared::event::Occurrence;
use quartet_shared::task::{LeaseId, Task};

use crate::scheduler::Scheduler;
use crate::scheduler::lease::Pin;
use crate::scheduler::refusal::Refusal;
use crate::scheduler::task::Completion;
use crate::scheduler::time::Now;

/// The right to write a task's result. Must be handed back to [`Scheduler::end_complete`], whatever
/// comes of it: until then the task is not leased again.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease stays pinned until its ticket is handed back"]
pub struct CompleteTicket {
    lease: LeaseId,
}

impl Scheduler {
    /// A worker wants to complete its task. The shell may write the result with the ticket in hand.
    /// `None` if this lease has completed the task already: the worker missed the answer and asks again.
    pub fn begin_complete(
        &mut self,
        lease: &LeaseId,
        now: Now,
    ) -> Result<Option<CompleteTicket>, Refusal> {
        let record = self.record(&lease.task)?;
        if record.is_finished() && record.newest.as_ref() == Some(lease) {
            return Ok(None);
        }
        record.live(lease)?;
        if let Task::Train(name) = &lease.task
            && let Some(run) = self.run(name)
            && !run.is_trained()
        {
            let (task, committed) = (lease.task.clone(), run.position().epoch);
            return Err(Refusal::Incomplete { task, committed });
        }
        self.pin(lease, Pin::Complete, now)?;
        Ok(Some(CompleteTicket {
            lease: lease.clone(),
        }))
    }

    /// A completion has ended: `Some` if the result is in the store, `None` if it was given up.
    pub fn end_complete(
        &mut self,
        ticket: CompleteTicket,
        completion: Option<Completion>,
        now: Now,
    ) {
        let CompleteTicket { lease } = ticket;
        if self.pinned(&lease, Pin::Complete).is_none() {
            return;
        }
        let Some(completion) = completion else {
            return self.unpin(&lease, now);
        };
        if let Ok(record) = self.record_mut(&lease.task) {
            record.finish(completion);
        }
        let attempt = lease.attempt;
        self.note(match (completion, &lease.task) {
            (Completion::Trained(outcome), Task::Train(run)) => Occurrence::RunFinished {
                run: run.clone(),
                attempt,
                outcome,
            },
            _ => Occurrence::Evaluated { attempt },
        });
        self.reset_worker(&lease);
        self.free_worker(&lease);
        self.unblock_evaluation();
    }
}
