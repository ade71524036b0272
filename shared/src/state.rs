//! The states of an experiment, its tasks and its workers, as people see them.

use std::fmt;

/// The state of an experiment.
///
/// ```text
/// Waiting <──workers come and go──> Training ───all runs ended───> Evaluating ──> Finished
///    └────────────────────────────────┴──nothing to evaluate──> Failed <─┘ some run failed
/// ```
/// A failed evaluation fails the experiment as well. An evaluation that finds a corrupt checkpoint
/// leads back to `Training`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExperimentState {
    /// Runs remain, and no worker is there.
    Waiting,
    /// Runs are being trained.
    Training,
    /// The ensemble is being evaluated.
    Evaluating,
    /// The ensemble of all runs is evaluated.
    Finished,
    /// At least one task failed for good, and nothing else is left to do.
    Failed,
}

impl ExperimentState {
    /// Whether nothing is left to be done.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Failed)
    }
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It waits for other tasks (the evaluation only).
    Blocked,
    /// It waits for a worker.
    Pending,
    /// A worker has it.
    Leased,
    /// It is done.
    Finished,
    /// It failed for good.
    Failed,
}

impl TaskState {
    /// Whether nothing is left to be done.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Failed)
    }
}

/// The state of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// It waits for a task.
    Idle,
    /// It works on one.
    Busy,
    /// It hands its task back and leaves.
    Draining,
    /// It has not been heard for too long, or its connection broke.
    Lost,
    /// Different runs failed on it; it gets no task as long as another worker is there.
    Quarantined,
}

macro_rules! words {
    ($type:ident: $($variant:ident = $word:literal),+ $(,)?) => {
        impl $type {
            /// The state as a lower-case word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words!(ExperimentState:
    Waiting = "waiting",
    Training = "training",
    Evaluating = "evaluating",
    Finished = "finished",
    Failed = "failed",
);
words!(TaskState:
    Blocked = "blocked",
    Pending = "pending",
    Leased = "leased",
    Finished = "finished",
    Failed = "failed",
);
words!(WorkerState:
    Idle = "idle",
    Busy = "busy",
    Draining = "draining",
    Lost = "lost",
    Quarantined = "quarantined",
);
