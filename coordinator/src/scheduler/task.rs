//! A task: its stage, its newest lease, and its failure counts.

use std::collections::BTreeSet;

use quartet_shared::ids::{Attempt, WorkerId};
use quartet_shared::outcome::Outcome;
use quartet_shared::state::TaskState;
use quartet_shared::task::LeaseId;

use super::config::Config;
use super::lease::{Ending, LastLease, Lease};
use super::occurrences::EndedLease;
use super::refusal::Refusal;
use super::release::Failure;
use super::time::Now;

/// The stage of a task.
///
/// ```text
/// Blocked ───all runs ended────> Pending ──assign──> Leased ──complete──> Finished
/// (evaluation only)                 ^                  │                     │
///    ^                              │                  │ lost, expired,      │ its checkpoint
///    │                              │                  │ failed, handed back │ is corrupt
///    └──a run is reopened           ├──budget left─────┤ (rollback)          │
///                                   └──────────────────┼─────────────────────┘
///                                                      └──budget spent──> Failed
/// ```
/// Someone may give a task that has failed another budget: it is pending again.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TaskStage {
    /// Waits for other tasks.
    Blocked,
    /// Waits for a worker.
    Pending {
        /// Not handed out before then: the wait after a failure.
        not_before: Now,
    },
    /// A worker has it.
    Leased(Box<Lease>),
    /// Done.
    Finished(Completion),
    /// Failed for good.
    Failed {
        /// Why, for people.
        reason: String,
    },
}

/// The result of a finished task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Completion {
    /// A run is trained.
    Trained(Outcome),
    /// The ensemble is evaluated.
    Evaluated,
}

/// What went wrong since the last commit, or since this coordinator started.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FailureCounts {
    pub(super) worker_losses: u32,
    pub(super) failures: u32,
    /// Those of them that another try can only repeat.
    pub(super) repeatable: u32,
    /// The workers on which the task failed.
    pub(super) failed_on: BTreeSet<WorkerId>,
}

impl FailureCounts {
    /// Counts a lost worker; the task's reason to fail if its budget is spent.
    fn add_loss(&mut self, reason: &str, config: &Config) -> Option<String> {
        self.worker_losses += 1;
        let spent = self.worker_losses > config.max_worker_losses;
        spent.then(|| format!("lost {} workers; the last: {reason}", self.worker_losses))
    }

    /// Counts a failure; the task's reason to fail if its budget is spent.
    fn add_failure(
        &mut self,
        worker: WorkerId,
        failure: &Failure,
        config: &Config,
    ) -> Option<String> {
        let reason = &failure.reason;
        self.failures += 1;
        self.repeatable += u32::from(failure.is_repeatable);
        self.failed_on.insert(worker);
        let spent = self.failures > config.max_failures
            || self.repeatable > config.max_repeatable_failures
            || self.failed_on.len() >= config.max_failed_workers as usize;
        spent.then(|| {
            let workers = match self.failed_on.len() {
                1 => String::new(),
                n => format!(" on {n} workers"),
            };
            format!(
                "failed {} times{workers}; the last: {reason}",
                self.failures
            )
        })
    }

    /// Whether one more failure, on `worker`, would spend the budget.
    pub(super) fn would_be_spent(
        &self,
        worker: &WorkerId,
        failure: &Failure,
        config: &Config,
    ) -> bool {
        let mut after = self.clone();
        after.add_failure(worker.clone(), failure, config).is_some()
    }
}

/// What the training runs and the evaluation have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRecord {
    pub(super) stage: TaskStage,
    /// The newest lease that is known.
    pub(super) newest: Option<LeaseId>,
    pub(super) counts: FailureCounts,
    last_reason: Option<String>,
}

impl TaskRecord {
    /// A task that is blocked. `newest` is the newest lease that an older coordinator granted.
    pub(super) fn new(newest: Option<LeaseId>) -> Self {
        Self {
            stage: TaskStage::Blocked,
            newest,
            counts: FailureCounts::default(),
            last_reason: None,
        }
    }

    /// Opens a blocked task: it is leased under `last`, the newest lease that an older coordinator
    /// granted, unless that has ended; otherwise it is pending.
    pub(super) fn open(&mut self, last: Option<LastLease>, config: &Config) {
        let held = last.filter(|last| !last.ended && !last.superseded);
        self.stage = match self.newest.clone().zip(held) {
            Some((id, last)) => TaskStage::Leased(Box::new(Lease::restore(id, last, config))),
            None => TaskStage::Pending {
                not_before: Now::default(),
            },
        };
    }

    /// The lease, if it is live: neither ended nor about to end.
    pub(super) fn live(&self, id: &LeaseId) -> Result<&Lease, Refusal> {
        match &self.stage {
            TaskStage::Leased(lease) if lease.id == *id && lease.is_live() => Ok(lease),
            TaskStage::Finished(_) => Err(Refusal::Ended {
                task: id.task.clone(),
            }),
            _ => Err(self.stale(id)),
        }
    }

    pub(super) fn live_mut(&mut self, id: &LeaseId) -> Result<&mut Lease, Refusal> {
        self.live(id)?;
        self.leased_mut().ok_or_else(|| Refusal::Ended {
            task: id.task.clone(),
        })
    }

    /// The task's lease, also one that is about to end.
    pub(super) fn leased_mut(&mut self) -> Option<&mut Lease> {
        match &mut self.stage {
            TaskStage::Leased(lease) => Some(lease),
            _ => None,
        }
    }

    /// The refusal of a lease that is not the live one.
    pub(super) fn stale(&self, id: &LeaseId) -> Refusal {
        Refusal::StaleLease {
            lease: id.clone(),
            newest: self.attempt(),
        }
    }

    /// Makes a new lease the live one, pinned until it is recorded in the store.
    pub(super) fn grant(&mut self, id: LeaseId, config: &Config, now: Now) {
        self.newest = Some(id.clone());
        self.stage = TaskStage::Leased(Box::new(Lease::grant(id, config, now)));
    }

    /// Ends the live lease without a result. A lease pinned by a transaction ends with the transaction.
    pub(super) fn close(
        &mut self,
        ending: Ending,
        config: &Config,
        now: Now,
    ) -> Option<EndedLease> {
        match &mut self.stage {
            TaskStage::Leased(lease) if lease.pin.is_some() => {
                lease.ending.get_or_insert(ending);
                None
            }
            TaskStage::Leased(lease) => {
                let recorded_name = lease.recorded_name().map(str::to_owned);
                let lease = lease.id.clone();
                let failure = self.end(ending.clone(), lease.worker.clone(), config, now);
                Some(EndedLease {
                    lease,
                    recorded_name,
                    ending,
                    failure,
                })
            }
            _ => None,
        }
    }

    /// Removes the pin. The lease ends if an ending waited for that.
    pub(super) fn unpin(&mut self, config: &Config, now: Now) -> Option<EndedLease> {
        let lease = self.leased_mut()?;
        lease.pin = None;
        let ending = lease.ending.take()?;
        self.close(ending, config, now)
    }

    /// Ends the lease. Returns why the task has failed for good, if it has.
    fn end(
        &mut self,
        ending: Ending,
        worker: WorkerId,
        config: &Config,
        now: Now,
    ) -> Option<String> {
        let (failed, not_before) = match ending {
            Ending::HandedBack => {
                self.last_reason = None;
                (None, now)
            }
            Ending::Unrecorded => (None, now + config.backoff),
            Ending::Rejected(reason) => {
                self.last_reason = Some(reason.clone());
                (Some(reason), now)
            }
            Ending::Lost(reason) => {
                let failed = self.counts.add_loss(&reason, config);
                self.last_reason = Some(reason);
                (failed, now)
            }
            Ending::Failed(failure) => {
                let failed = self.counts.add_failure(worker, &failure, config);
                self.last_reason = Some(failure.reason);
                let wait = config.backoff_after(self.counts.failures);
                (failed, now + wait)
            }
        };
        self.stage = match failed.clone() {
            Some(reason) => TaskStage::Failed { reason },
            None => TaskStage::Pending { not_before },
        };
        failed
    }

    pub(super) fn finish(&mut self, completion: Completion) {
        self.stage = TaskStage::Finished(completion);
    }

    /// Sends a finished task back, because of `reason`, to be done again.
    pub(super) fn reopen(&mut self, reason: String, now: Now) {
        self.last_reason = Some(reason);
        if self.is_finished() {
            self.stage = TaskStage::Pending { not_before: now };
        }
    }

    /// Begins again with another budget.
    pub(super) fn retry(&mut self, now: Now) {
        self.counts = FailureCounts::default();
        self.stage = TaskStage::Pending { not_before: now };
    }

    /// Something was committed: what went wrong before counts no more, and is not told any more.
    pub(super) fn reset_failures(&mut self) {
        self.counts = FailureCounts::default();
        self.last_reason = None;
    }

    pub(super) fn is_finished(&self) -> bool {
        matches!(self.stage, TaskStage::Finished(_))
    }

    /// Whether the task can be leased now.
    pub(super) fn is_ready(&self, now: Now) -> bool {
        matches!(self.stage, TaskStage::Pending { not_before } if not_before <= now)
    }

    /// The state of the task as people see it.
    #[must_use]
    pub fn state(&self) -> TaskState {
        match self.stage {
            TaskStage::Blocked => TaskState::Blocked,
            TaskStage::Pending { .. } => TaskState::Pending,
            TaskStage::Leased(_) => TaskState::Leased,
            TaskStage::Finished(_) => TaskState::Finished,
            TaskStage::Failed { .. } => TaskState::Failed,
        }
    }

    /// The lease, while there is one.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match &self.stage {
            TaskStage::Leased(lease) => Some(lease),
            _ => None,
        }
    }

    /// The newest attempt, 0 before the first.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.newest
            .as_ref()
            .map_or(Attempt(0), |lease| lease.attempt)
    }

    /// Why it has failed, else why its last lost or failed attempt ended.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match &self.stage {
            TaskStage::Failed { reason } => Some(reason),
            _ => self.last_reason.as_deref(),
        }
    }
}
