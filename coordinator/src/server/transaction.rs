//! Transactions: between the `begin_` and the `end_` of the scheduler's transactions, the store is
//! written.
//!
//! - `grant`: the record of a new lease
//! - `commit`: a checkpoint
//! - `predictions`: what a member of the ensemble says of the images
//! - `complete`: the result of a task
//! - `rollback`: what a corrupt checkpoint leads to
//! - `catch_up`: what an older coordinator committed late
//! - `receive`, `sender`: how bytes come from a worker into the store

mod catch_up;
mod commit;
mod complete;
mod grant;
mod predictions;
mod receive;
mod rollback;
mod sender;

use std::sync::Arc;

use super::shell::Shell;
use crate::scheduler::{Now, Scheduler};

pub(super) use commit::commit;
pub(super) use complete::{complete_evaluation, complete_run};
pub(super) use grant::grant;
pub(super) use predictions::keep_predictions;
pub(super) use receive::Receiver;
pub(super) use rollback::roll_back;
pub(super) use sender::Sender;

/// A transaction in progress. Dropped, it gives up, so that no way out leaves the lease pinned.
struct Transaction<T> {
    shell: Arc<Shell>,
    ticket: Option<T>,
    give_up: fn(&mut Scheduler, T, Now),
}

impl<T> Transaction<T> {
    fn new(shell: &Arc<Shell>, ticket: T, give_up: fn(&mut Scheduler, T, Now)) -> Self {
        Self {
            shell: Arc::clone(shell),
            ticket: Some(ticket),
            give_up,
        }
    }

    /// Hands the ticket back to the scheduler with the transaction's result.
    fn end(mut self, end: impl FnOnce(&mut Scheduler, T, Now)) {
        self.hand_back(end);
    }

    fn hand_back(&mut self, end: impl FnOnce(&mut Scheduler, T, Now)) {
        if let Some(ticket) = self.ticket.take() {
            let scheduler = &self.shell.scheduler;
            scheduler.tell(|scheduler, now| end(scheduler, ticket, now));
        }
    }
}

impl<T> Drop for Transaction<T> {
    fn drop(&mut self) {
        self.hand_back(self.give_up);
    }
}
