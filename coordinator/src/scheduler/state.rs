//! The states of tasks and workers.

use std::collections::BTreeSet;

use quartet_shared::ids::{Attempt, Epoch, WorkerId};
use quartet_shared::outcome::Outcome;
use quartet_shared::position::Position;
use quartet_shared::progress::Progress;
use quartet_shared::task::{LeaseId, Task};

use super::config::{CommittedEpoch, Config, Now, RunPlan};

/// Where a task is.
///
/// ```text
/// Blocked ──all runs finished──> Pending ──assign──> Leased ──complete──> Finished
/// (evaluation only)                 ^                  │                     │
///    ^                              │                  │ lost, expired,      │ its weights turn
///    │                              │                  │ failed, handed back │ out to be corrupt
///    └──a run is reopened           ├──budget left─────┤ (rewind)            │
///                                   └──────────────────┼─────────────────────┘
///                                                      └──budget spent──> Failed
/// ```
/// A lease that is pinned by a write to the store ends when that does, not before. After a start of the coordinator the newest
/// lease that the store knows of counts as live until its worker comes back, or does not.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskState {
    /// Waits for other tasks.
    Blocked,
    /// Waits for a worker.
    Pending {
        /// Not handed out before then: the wait after a failure.
        not_before: Now,
    },
    /// A worker is at it.
    Leased(Box<Lease>),
    /// Done.
    Finished(Completion),
    /// Given up.
    Failed {
        /// Why, for people.
        reason: String,
    },
}

/// What a finished task has come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Completion {
    /// A run is trained.
    Trained(Outcome),
    /// The ensemble is evaluated.
    Evaluated,
}

/// A live lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The lease.
    pub id: LeaseId,
    /// When it was given or adopted.
    pub granted_at: Now,
    /// When it ends unless a heartbeat names it before.
    pub expires_at: Now,
    /// When the lease may be ended in favour of a spare worker: its worker is not connected.
    pub reclaimable_at: Option<Now>,
    /// When the task last moved.
    pub last_progress_at: Now,
    /// The standstill since then that was told of.
    pub(super) stall_told: Option<Now>,
    /// The worker's last report.
    pub progress: Option<Progress>,
    /// What keeps the lease from ending now.
    pub(super) pin: Option<Pin>,
    /// How the lease ends once it is no longer pinned; the worker is free of it already.
    pub(super) ending: Option<Ending>,
    /// The name of its worker, if an older coordinator gave it and the worker has not come back yet.
    pub(super) restored: Option<String>,
}

/// A write to the store under a lease. While it lasts, the task is not leased again: the write
/// could succeed after a newer lease was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pin {
    /// The record of the lease itself.
    Grant,
    Commit(Position),
    Complete,
    Rewind,
}

/// How a lease ends other than by completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Counts against the budget of lost workers.
    Lost(String),
    /// Counts against the budget of failures.
    Failed(String),
    /// Ends the task for good.
    Rejected(String),
    /// Counts against nothing.
    HandedBack,
    /// Its record could not be written, and its worker never heard of it. Counts against nothing.
    Unrecorded,
}

impl Lease {
    /// What is being committed.
    #[must_use]
    pub fn committing(&self) -> Option<Position> {
        match self.pin {
            Some(Pin::Commit(position)) => Some(position),
            _ => None,
        }
    }
}

/// What runs and the evaluation have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRecord {
    pub(super) state: TaskState,
    /// The newest attempt that is known of.
    pub(super) attempt: Attempt,
    /// The newest lease that is known of.
    pub(super) newest: Option<LeaseId>,
    pub(super) worker_losses: u32,
    pub(super) failures: u32,
    pub(super) last_reason: Option<String>,
    /// Where it failed since the last commit.
    pub(super) failed_on: BTreeSet<WorkerId>,
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// What is to be trained.
    pub plan: RunPlan,
    pub(super) record: TaskRecord,
    pub(super) committed: Option<(Epoch, CommittedEpoch)>,
    /// Committed steps of the epoch after it.
    pub(super) step: u32,
}

/// What a worker says about itself when it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Its identity.
    pub id: WorkerId,
    /// Its name for people.
    pub name: String,
    /// What it computes on.
    pub device: String,
}

/// What a worker is at.
///
/// ```text
///         assign, re-attach                release
///  Idle ───────────────────> Busy ───────────────────> Draining
///  ^  ^ <───────────────────  │                           │
///  │  complete, fail          │ lease lost or expired     │
///  │                          v                           │
///  └──heartbeat, join────── Lost <──silent, disconnected──┘ (from Idle as well)
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// Ready for a task.
    Idle,
    /// Holds the live lease of this task.
    Busy(Task),
    /// Has handed its task back because it shuts down; gets no more.
    Draining,
    /// Disconnected or silent, or its task got stuck. It is idle (or draining) again when it joins, or
    /// says that it works on nothing.
    Lost,
}

/// A worker that has joined at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// What it said about itself.
    pub info: WorkerInfo,
    /// What it is at.
    pub state: WorkerState,
    /// When it was last heard of.
    pub last_seen: Now,
    /// Whether its connection stands.
    pub connected: bool,
    /// Whether it shuts down: once it has begun to, it gets no more tasks whatever happens.
    pub(super) draining: bool,
    /// The tasks that failed on it since its last success.
    pub(super) failed: BTreeSet<Task>,
}

impl Worker {
    /// Whether it shuts down, or is to.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether so many different tasks failed on it that it gets no more as long as another worker is there.
    pub(super) fn is_quarantined(&self, config: &Config) -> bool {
        self.failed.len() >= config.quarantine_after as usize
    }

    /// What it is at without a lease.
    pub(super) fn free_state(&self) -> WorkerState {
        match (self.connected, self.draining) {
            (false, _) => WorkerState::Lost,
            (true, true) => WorkerState::Draining,
            (true, false) => WorkerState::Idle,
        }
    }
}
