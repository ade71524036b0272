//! The end of a grant: the lease is recorded, or could not be.

use quartet_shared::event::Occurrence;
use quartet_shared::task::{LeaseId, Task};

use crate::scheduler::Scheduler;
use crate::scheduler::lease::{Ending, Pin};
use crate::scheduler::refusal::Refusal;
use crate::scheduler::run::Run;
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
        self.check_lease(id)?;
        let resume = match &id.task {
            Task::Train(run) => self.run(run).map(Run::position),
            Task::Evaluate => None,
        };
        self.note_of(&id.worker, |worker| Occurrence::AttemptStarted {
            task: id.task.clone(),
            attempt: id.attempt,
            worker,
            resume: resume.unwrap_or_default(),
        });
        Ok(())
    }
}
