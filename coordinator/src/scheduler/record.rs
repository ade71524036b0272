//! One task's lease, attempts and budgets.

use quartet_shared::ids::{Attempt, Epoch, WorkerId};
use quartet_shared::position::Position;
use quartet_shared::task::{LeaseId, Task};

use super::config::{Config, LastLease, Now, RunHistory, RunPlan};
use super::refusal::Refusal;
use super::state::{Completion, Ending, Lease, Pin, Run, TaskRecord, TaskState};

impl TaskRecord {
    /// Not yet open. `last` is the newest lease that an older coordinator gave.
    pub(super) fn new(task: Task, last: Option<&LastLease>) -> Self {
        Self {
            state: TaskState::Blocked,
            attempt: last.map_or(Attempt(0), |last| last.attempt),
            newest: last.map(|last| LeaseId {
                task,
                attempt: last.attempt,
                worker: last.worker.clone(),
            }),
            worker_losses: 0,
            failures: 0,
            last_reason: None,
            failed_on: Default::default(),
        }
    }

    /// Makes a task ready: leased under `last`, the newest lease that an older coordinator gave, unless that is known to have ended;
    /// else pending.
    pub(super) fn open(&mut self, last: Option<LastLease>, config: &Config) {
        let start = Now::default();
        let held = last.filter(|last| !last.ended);
        self.state = match self.newest.clone().zip(held) {
            Some((id, last)) => TaskState::Leased(Box::new(Lease {
                reclaimable_at: Some(start + config.recovery_grace),
                restored: Some(last.name),
                ..Lease::new(id, config, start)
            })),
            None => TaskState::Pending { not_before: start },
        };
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
            _ => Refusal::StaleLease {
                lease: id.clone(),
                newest: self.attempt,
            },
        }
    }

    /// Makes a lease the live one, pinned until it is recorded in the store.
    pub(super) fn grant(&mut self, id: LeaseId, config: &Config, now: Now) {
        self.attempt = id.attempt;
        self.newest = Some(id.clone());
        self.state = TaskState::Leased(Box::new(Lease {
            pin: Some(Pin::Grant),
            ..Lease::new(id, config, now)
        }));
    }

    /// Ends the live lease, or has it end with its pin.
    pub(super) fn close(&mut self, ending: Ending, config: &Config, now: Now) {
        match &mut self.state {
            TaskState::Leased(lease) if lease.pin.is_some() => {
                lease.ending.get_or_insert(ending);
            }
            TaskState::Leased(lease) => {
                let worker = lease.id.worker.clone();
                self.end(ending, worker, config, now);
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

    /// Takes note of what people should know.
    pub(super) fn note(&mut self, reason: String) {
        self.last_reason = Some(reason);
    }

    /// Something was committed: what went wrong before is forgiven.
    pub(super) fn forgive(&mut self) {
        (self.worker_losses, self.failures) = (0, 0);
        self.failed_on.clear();
    }

    fn end(&mut self, ending: Ending, worker: WorkerId, config: &Config, now: Now) {
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
                self.worker_losses += 1;
                let spent = self.worker_losses > config.max_worker_losses;
                let failed = spent
                    .then(|| format!("lost {} workers; the last: {reason}", self.worker_losses));
                self.last_reason = Some(reason);
                (failed, now)
            }
            Ending::Failed(reason) => {
                self.failures += 1;
                self.failed_on.insert(worker);
                let failed = self.is_spent(config).then(|| {
                    let workers = match self.failed_on.len() {
                        1 => String::new(),
                        n => format!(" on {n} workers"),
                    };
                    format!(
                        "failed {} times{workers}; the last: {reason}",
                        self.failures
                    )
                });
                self.last_reason = Some(reason);
                (failed, now + config.backoff_after(self.failures))
            }
        };
        self.state = match failed {
            Some(reason) => TaskState::Failed { reason },
            None => TaskState::Pending { not_before },
        };
    }

    /// Whether no failure is left to it.
    fn is_spent(&self, config: &Config) -> bool {
        self.failures > config.max_failures
            || self.failed_on.len() >= config.max_failed_workers as usize
    }

    /// Whether one more failure, on `worker`, will be the last.
    pub(super) fn would_be_spent(&self, worker: &WorkerId, config: &Config) -> bool {
        let elsewhere = self
            .failed_on
            .iter()
            .filter(|failed| *failed != worker)
            .count();
        self.failures + 1 > config.max_failures
            || elsewhere + 1 >= config.max_failed_workers as usize
    }
}

impl Lease {
    fn new(id: LeaseId, config: &Config, now: Now) -> Self {
        Self {
            id,
            granted_at: now,
            expires_at: now + config.lease,
            reclaimable_at: None,
            last_progress_at: now,
            stall_told: None,
            progress: None,
            pin: None,
            ending: None,
            restored: None,
        }
    }

    /// Its worker is heard of.
    pub(super) fn renew(&mut self, config: &Config, now: Now) {
        self.expires_at = now + config.lease;
        self.reclaimable_at = None;
        self.restored = None;
    }
}

impl Run {
    pub(super) fn new(plan: RunPlan, history: Option<RunHistory>, config: &Config) -> Self {
        let task = Task::Train(plan.name.clone());
        let (last, committed, step, outcome) = history.map_or_else(Default::default, |h| {
            (h.lease, h.committed, h.step, h.outcome)
        });
        let mut record = TaskRecord::new(task, last.as_ref());
        match outcome {
            Some(outcome) => record.finish(Completion::Trained(outcome)),
            None => record.open(last, config),
        }
        Self {
            plan,
            record,
            committed,
            step,
        }
    }

    pub(super) fn last_epoch(&self) -> Epoch {
        self.committed.map_or(Epoch(0), |(epoch, _)| epoch)
    }

    /// How far it is in the store.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            epoch: self.last_epoch(),
            step: self.step,
        }
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
