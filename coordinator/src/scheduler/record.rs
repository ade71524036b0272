//! One task's lease, attempts and budgets.

use quartet_shared::ids::{Attempt, Epoch};
use quartet_shared::task::{LeaseId, Task};

use super::config::{Config, Now, RunHistory, RunPlan};
use super::refusal::Refusal;
use super::state::{Completion, Ending, Lease, Run, TaskRecord, TaskState};

/// How far beyond the newest known attempt a worker's claim is believed. An older coordinator can have
/// given leases that left no trace in the store, but not this many.
const MAX_LEAP: u32 = 1000;

impl TaskRecord {
    pub(super) fn new(state: TaskState, attempt: Attempt) -> Self {
        Self {
            state,
            attempt,
            issued: None,
            worker_losses: 0,
            failures: 0,
            last_reason: None,
            avoid: None,
        }
    }

    /// The lease, if it is live: neither ended nor about to end.
    pub(super) fn live(&self, id: &LeaseId) -> Result<&Lease, Refusal> {
        match &self.state {
            TaskState::Leased(lease) if lease.id == *id && lease.ending.is_none() => Ok(lease),
            _ => Err(self.refusal(id)),
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
        match &mut self.state {
            TaskState::Leased(lease) => Some(lease),
            _ => None,
        }
    }

    fn refusal(&self, id: &LeaseId) -> Refusal {
        match self.state {
            TaskState::Finished(_) => Refusal::Ended {
                task: id.task.clone(),
            },
            _ if self.is_adoptable(id) => Refusal::NotAttached { lease: id.clone() },
            _ => Refusal::StaleLease {
                lease: id.clone(),
                newest: self.attempt,
            },
        }
    }

    /// Whether the lease may be one that an older coordinator gave and that still holds: no attempt is
    /// known that is newer, and this scheduler has not leased the task since it started.
    pub(super) fn is_adoptable(&self, id: &LeaseId) -> bool {
        matches!(self.state, TaskState::Pending { .. })
            && self.issued.is_none()
            && id.attempt >= self.attempt
            && self.is_credible(id.attempt)
    }

    fn is_credible(&self, attempt: Attempt) -> bool {
        attempt > Attempt(0) && attempt.0 <= self.attempt.0.saturating_add(MAX_LEAP)
    }

    /// Takes note of an attempt that a worker claims, so that none is given twice.
    pub(super) fn note(&mut self, attempt: Attempt) {
        if self.is_credible(attempt) {
            self.attempt = self.attempt.max(attempt);
        }
    }

    /// Makes a lease the live one.
    pub(super) fn grant(&mut self, id: LeaseId, config: &Config, now: Now) {
        self.attempt = id.attempt;
        self.issued = Some(id.clone());
        self.state = TaskState::Leased(Lease {
            id,
            granted_at: now,
            expires_at: now + config.lease,
            last_progress_at: now,
            progress: None,
            pin: None,
            ending: None,
        });
    }

    /// Ends the live lease, or has it end with its pin.
    pub(super) fn close(&mut self, ending: Ending, config: &Config, now: Now) {
        match &mut self.state {
            TaskState::Leased(lease) if lease.pin.is_some() => {
                lease.ending.get_or_insert(ending);
            }
            TaskState::Leased(lease) => {
                let worker = lease.id.worker.clone();
                if matches!(ending, Ending::Failed(_)) {
                    self.avoid = Some(worker);
                }
                self.end(ending, config, now);
            }
            _ => {}
        }
    }

    /// Takes the pin off; the lease ends if it had to wait for that.
    pub(super) fn unpin(&mut self, config: &Config, now: Now) {
        let Some(lease) = self.leased_mut() else {
            return;
        };
        lease.pin = None;
        if let Some(ending) = lease.ending.take() {
            self.close(ending, config, now);
        }
    }

    pub(super) fn finish(&mut self, completion: Completion) {
        self.state = TaskState::Finished(completion);
    }

    fn end(&mut self, ending: Ending, config: &Config, now: Now) {
        let (failed, not_before) = match ending {
            Ending::HandedBack => (None, now),
            Ending::Rejected(reason) => {
                self.last_reason = Some(reason.clone());
                (Some(reason), now)
            }
            Ending::Lost(reason) => {
                self.worker_losses += 1;
                let spent = self.worker_losses > config.max_worker_losses;
                let failed = spent
                    .then(|| format!("lost {} workers; the last: {reason}", self.worker_losses));
                self.last_reason = Some(reason);
                (failed, now)
            }
            Ending::Failed(reason) => {
                self.failures += 1;
                let spent = self.failures > config.max_failures;
                let failed =
                    spent.then(|| format!("failed {} times; the last: {reason}", self.failures));
                self.last_reason = Some(reason);
                (failed, now + config.backoff_after(self.failures))
            }
        };
        self.state = match failed {
            Some(reason) => TaskState::Failed { reason },
            None => TaskState::Pending { not_before },
        };
    }
}

impl Run {
    pub(super) fn new(plan: RunPlan, history: Option<RunHistory>) -> Self {
        let (attempt, committed, outcome) =
            history.map_or_else(Default::default, |h| (h.attempt, h.committed, h.outcome));
        let state = match outcome {
            Some(outcome) => TaskState::Finished(Completion::Trained(outcome)),
            None => TaskState::Pending {
                not_before: Now::default(),
            },
        };
        Self {
            plan,
            record: TaskRecord::new(state, attempt),
            committed,
        }
    }

    pub(super) fn last_epoch(&self) -> Epoch {
        self.committed.map_or(Epoch(0), |(epoch, _)| epoch)
    }

    /// Whether the committed epochs are all that are to be trained.
    pub(super) fn is_trained(&self) -> bool {
        self.committed.is_some_and(|(epoch, committed)| {
            epoch.0 >= self.plan.epochs || committed.early_stopping.should_stop(self.plan.patience)
        })
    }

    /// Expected work that is left, relative to other runs.
    pub(super) fn remaining_cost(&self) -> f64 {
        if self.is_trained() {
            return 0.0;
        }
        self.plan.cost * f64::from(self.plan.epochs.saturating_sub(self.last_epoch().0))
    }

    pub(super) fn task(&self) -> Task {
        Task::Train(self.plan.name.clone())
    }
}
