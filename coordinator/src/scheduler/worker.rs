//! A worker, and what it is told when it attaches and is heard of.

use std::collections::BTreeSet;

use quartet_shared::gpu::GpuUse;
use quartet_shared::ids::WorkerId;
use quartet_shared::provenance::Provenance;
use quartet_shared::secret::SecretHash;
use quartet_shared::spec::Precision;
use quartet_shared::state::WorkerState;
use quartet_shared::task::{LeaseId, Task};

use super::config::Config;
use super::refusal::Refusal;
use super::time::Now;

/// What a worker says about itself when it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Its identity.
    pub id: WorkerId,
    /// Its name for people.
    pub name: String,
    /// What it computes on.
    pub device: String,
    /// The hash of the secret that it proves itself with.
    pub secret: SecretHash,
    /// Its program and its machine, for the record.
    pub provenance: Provenance,
    /// Whether it looks for the next coordinator once this one needs it no longer.
    pub stays: bool,
    /// In which it computes; none if it does not say.
    pub precisions: Vec<Precision>,
}

/// The stage of a worker.
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
pub(super) enum WorkerStage {
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
    /// When it was last heard of.
    pub last_seen: Now,
    /// Whether its connection stands.
    pub connected: bool,
    /// How its GPU did when it was last heard of, if that is known.
    pub gpu: Option<GpuUse>,
    /// Tells it from connected workers of the same name: 1 for the first of them, which is as good as none.
    pub number: u32,
    /// Its stage.
    pub(super) stage: WorkerStage,
    /// Whether it shuts down. If so, it gets no more tasks whatever happens.
    pub(super) draining: bool,
    /// Whether it was asked to exit.
    pub(super) sent_home: bool,
    /// The tasks that failed on it since its last success.
    pub(super) failed: BTreeSet<Task>,
}

impl Worker {
    /// Whether so many different tasks failed on it that it gets no more as long as another worker is
    /// there.
    pub(super) fn is_quarantined(&self, config: &Config) -> bool {
        self.failed.len() >= config.quarantine_after as usize
    }

    /// Whether it holds no lease, but is there.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.stage, WorkerStage::Idle | WorkerStage::Draining)
    }

    /// Whether it may get tasks, now or after the one that it has.
    pub(super) fn may_work(&self) -> bool {
        matches!(self.stage, WorkerStage::Idle | WorkerStage::Busy(_)) && !self.draining
    }

    /// The lease of its task has ended: it is free, or gone.
    pub(super) fn set_free(&mut self) {
        self.stage = match (self.connected, self.draining) {
            (false, _) => WorkerStage::Lost,
            (true, true) => WorkerStage::Draining,
            (true, false) => WorkerStage::Idle,
        };
    }

    /// The state of the worker as people see it.
    #[must_use]
    pub fn state(&self, config: &Config) -> WorkerState {
        match &self.stage {
            WorkerStage::Idle if self.is_quarantined(config) => WorkerState::Quarantined,
            WorkerStage::Idle => WorkerState::Idle,
            WorkerStage::Busy(_) if self.draining => WorkerState::Draining,
            WorkerStage::Busy(_) => WorkerState::Busy,
            WorkerStage::Draining => WorkerState::Draining,
            WorkerStage::Lost => WorkerState::Lost,
        }
    }

    /// The task that it works on.
    #[must_use]
    pub fn task(&self) -> Option<&Task> {
        match &self.stage {
            WorkerStage::Busy(task) => Some(task),
            _ => None,
        }
    }
}

/// What a worker is after it has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Joined {
    /// It holds no lease.
    Free,
    /// It keeps the lease that it held.
    Reattached(LeaseId),
    /// It has to drop the lease that it held.
    Refused {
        /// The lease.
        lease: LeaseId,
        /// Why the lease is no longer valid.
        refusal: Refusal,
    },
}

impl Joined {
    /// Why the worker has to drop the lease that it held, if it has to.
    #[must_use]
    pub fn refused(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            Self::Free | Self::Reattached(_) => None,
        }
    }
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum HeartbeatReply {
    /// All is well.
    Accepted,
    /// The worker has to drop the lease that it named.
    Refused(Refusal),
}

impl HeartbeatReply {
    /// Why the worker has to drop the lease that it named, if it has to.
    #[must_use]
    pub fn refused(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Accepted => None,
        }
    }
}
