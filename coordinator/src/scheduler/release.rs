//! A worker ends its task without a result: the task failed, cannot be done, or is handed back.

use std::fmt;

use quartet_shared::task::LeaseId;

use super::Scheduler;
use super::lease::Ending;
use super::refusal::Refusal;
use super::time::Now;

/// Why a task failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For people.
    pub reason: String,
    /// Whether another try from the same state can only end in the same way, as with a loss that is not
    /// finite.
    pub is_repeatable: bool,
}

impl From<String> for Failure {
    /// One that may not come again.
    fn from(reason: String) -> Self {
        Self {
            reason,
            is_repeatable: false,
        }
    }
}

/// What becomes of a task that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailDecision {
    /// It is tried again.
    Retry {
        /// Not before then.
        not_before: Now,
        /// Failures so far.
        failures: u32,
    },
    /// Its budget is spent: it has failed for good.
    Final,
}

impl fmt::Display for FailDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { failures, .. } => {
                write!(f, "it is tried again after failure {failures}")
            }
            Self::Final => f.write_str("it is given up"),
        }
    }
}

impl Scheduler {
    /// A task has failed on its worker, which becomes idle.
    pub fn fail(
        &mut self,
        lease: &LeaseId,
        failure: impl Into<Failure>,
        now: Now,
    ) -> Result<FailDecision, Refusal> {
        let failure = failure.into();
        self.check_lease(lease)?;
        let counts = &self.record(&lease.task)?.counts;
        let failures = counts.failures + 1;
        let decision = if counts.would_be_spent(&lease.worker, &failure, &self.config) {
            FailDecision::Final
        } else {
            let not_before = now + self.config.backoff_after(failures);
            FailDecision::Retry {
                not_before,
                failures,
            }
        };
        self.end_failed(lease, failure, now);
        Ok(decision)
    }

    /// Ends a live lease as a failure, of the task and of its worker.
    pub(super) fn end_failed(&mut self, lease: &LeaseId, failure: Failure, now: Now) {
        if let Some(worker) = self.workers.get_mut(&lease.worker) {
            worker.failed.insert(lease.task.clone());
        }
        self.end_lease(lease, Ending::Failed(failure), now);
    }

    /// No worker can do a task, because what it was given is wrong: it has failed for good.
    pub fn reject(&mut self, lease: &LeaseId, reason: String, now: Now) -> Result<(), Refusal> {
        self.check_lease(lease)?;
        self.end_lease(lease, Ending::Rejected(reason), now);
        Ok(())
    }

    /// A worker that shuts down hands its task back. This is not counted, and the worker gets no more
    /// tasks.
    pub fn release(&mut self, lease: &LeaseId, now: Now) -> Result<(), Refusal> {
        self.check_lease(lease)?;
        if let Some(worker) = self.workers.get_mut(&lease.worker) {
            worker.draining = true;
        }
        self.end_lease(lease, Ending::HandedBack, now);
        Ok(())
    }
}
