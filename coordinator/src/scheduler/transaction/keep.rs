//! Predictions: what a member of the ensemble says of the evaluated images.

use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::position::Position;
use quartet_shared::task::{LeaseId, Task};

use crate::scheduler::Scheduler;
use crate::scheduler::lease::Pin;
use crate::scheduler::refusal::Refusal;
use crate::scheduler::time::Now;

/// The right to write the predictions of one run. Must be handed back to [`Scheduler::end_keep`], whatever
/// comes of it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease stays pinned until its ticket is handed back"]
pub struct KeepTicket {
    lease: LeaseId,
    place: Position,
}

impl KeepTicket {
    /// The place of this upload among those of the evaluation, for [`Scheduler::report_upload`]: members are
    /// computed in the order of the spec, so that each is farther than those before it.
    #[must_use]
    pub fn place(&self) -> Position {
        self.place
    }
}

impl Scheduler {
    /// The worker that evaluates wants to hand over what a run's network says. The shell may write it with
    /// the ticket in hand.
    pub fn begin_keep(
        &mut self,
        lease: &LeaseId,
        run: &RunName,
        now: Now,
    ) -> Result<KeepTicket, Refusal> {
        let number = match &lease.task {
            Task::Evaluate => self
                .runs
                .iter()
                .position(|known| known.settings.name == *run),
            Task::Train(_) => None,
        };
        let Some(number) = number else {
            return Err(Refusal::NoPredictions {
                task: lease.task.clone(),
                run: run.clone(),
            });
        };
        let place = Position::end_of(Epoch(u32::try_from(number).unwrap_or(u32::MAX)));
        self.pin(lease, Pin::Keep(place), now)?;
        Ok(KeepTicket {
            lease: lease.clone(),
            place,
        })
    }

    /// Predictions are in the store, or were given up.
    pub fn end_keep(&mut self, ticket: KeepTicket, kept: bool, now: Now) {
        let KeepTicket { lease, place } = ticket;
        if let Some(pinned) = self.pinned(&lease, Pin::Keep(place)) {
            if kept {
                pinned.last_progress_at = now;
            }
            self.unpin(&lease, now);
        }
    }
}
