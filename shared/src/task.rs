//! Tasks and leases: who may do what.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, ExperimentId, RunName, WorkerId};

/// What can be leased to a worker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Train one run.
    Train(RunName),
    /// Evaluate the ensemble; ready when all runs have ended.
    Evaluate,
}

impl Task {
    /// The task that people call by this name: a run, or "evaluation", which no run is called.
    #[must_use]
    pub fn of_name(name: RunName) -> Self {
        match name.as_str().eq_ignore_ascii_case("evaluation") {
            true => Self::Evaluate,
            false => Self::Train(name),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Train(run) => run.fmt(f),
            Self::Evaluate => f.pad("evaluation"),
        }
    }
}

/// The right of one worker to work on a task. The attempt is the fencing token: it grows with every
/// lease of the task, and nothing under an older one is ever committed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseId {
    /// The experiment that the task belongs to.
    pub experiment: ExperimentId,
    /// What is leased.
    pub task: Task,
    /// Which lease of the task this is, from 1.
    pub attempt: Attempt,
    /// Who holds it.
    pub worker: WorkerId,
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (attempt {}) of worker {}",
            self.task, self.attempt, self.worker
        )
    }
}
