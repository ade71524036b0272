//! The keys of the object store, in one place.
//!
//! ```text
//! datasets/<sha256>.qds
//! weights/<sha256>
//! <experiment>/spec.json
//! <experiment>/coordinators/<term>.json
//! <experiment>/runs/<run>/attempts/<attempt>.json
//! <experiment>/runs/<run>/epochs/<epoch>.json
//! <experiment>/runs/<run>/steps/<epoch>-<step>.json
//! <experiment>/runs/<run>/checkpoints/<epoch>-<attempt>.weights.safetensors
//! <experiment>/runs/<run>/checkpoints/<epoch>-<attempt>.state.safetensors
//! <experiment>/runs/<run>/checkpoints/<epoch>-<attempt>.step-<step>.weights.safetensors
//! <experiment>/runs/<run>/checkpoints/<epoch>-<attempt>.step-<step>.state.safetensors
//! <experiment>/runs/<run>/outcome.json
//! <experiment>/evaluation/attempts/<attempt>.json
//! <experiment>/evaluation.json
//! <experiment>/evaluation.txt
//! ```
//! Epochs and attempts are written with leading zeros, so that a listing is in order.

use crate::checkpoint::{Checksum, Position};
use crate::ids::{Attempt, Epoch, ExperimentName, RunName, Term};
use crate::task::Task;

/// The keys of one experiment, relative to the root of the store.
#[derive(Clone, Debug)]
pub struct Layout {
    experiment: ExperimentName,
}

impl Layout {
    /// The layout of `experiment`.
    #[must_use]
    pub fn new(experiment: ExperimentName) -> Self {
        Self { experiment }
    }

    /// The experiment's folder, with a slash at its end.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{}/", self.experiment)
    }

    /// What is trained; immutable.
    #[must_use]
    pub fn spec(&self) -> String {
        format!("{}/spec.json", self.experiment)
    }

    /// The folder of the coordinators' claims.
    #[must_use]
    pub fn coordinators(&self) -> String {
        format!("{}/coordinators", self.experiment)
    }

    /// A coordinator's claim of a term.
    #[must_use]
    pub fn coordinator(&self, term: Term) -> String {
        format!("{}/{:06}.json", self.coordinators(), term.0)
    }

    fn run(&self, run: &RunName) -> String {
        format!("{}/runs/{run}", self.experiment)
    }

    /// The folder of a run's manifests.
    #[must_use]
    pub fn manifests(&self, run: &RunName) -> String {
        format!("{}/epochs", self.run(run))
    }

    /// The manifest of an epoch.
    #[must_use]
    pub fn manifest(&self, run: &RunName, epoch: Epoch) -> String {
        format!("{}/{:04}.json", self.manifests(run), epoch.0)
    }

    /// The folder of a run's manifests of states within an epoch.
    #[must_use]
    pub fn step_manifests(&self, run: &RunName) -> String {
        format!("{}/steps", self.run(run))
    }

    /// The manifest of a state within an epoch; the key names the epoch in progress.
    #[must_use]
    pub fn step_manifest(&self, run: &RunName, position: Position) -> String {
        let epoch = position.epoch.next().0;
        let folder = self.step_manifests(run);
        format!("{folder}/{epoch:04}-{:06}.json", position.step)
    }

    /// The folder of a task's attempts.
    #[must_use]
    pub fn attempts(&self, task: &Task) -> String {
        match task {
            Task::Train(run) => format!("{}/attempts", self.run(run)),
            Task::Evaluate => format!("{}/evaluation/attempts", self.experiment),
        }
    }

    /// The record of a lease.
    #[must_use]
    pub fn attempt(&self, task: &Task, attempt: Attempt) -> String {
        format!("{}/{:04}.json", self.attempts(task), attempt.0)
    }

    /// The folder of a run's checkpoint blobs.
    #[must_use]
    pub fn checkpoints(&self, run: &RunName) -> String {
        format!("{}/checkpoints", self.run(run))
    }

    /// The weights at a position, as one attempt wrote them.
    #[must_use]
    pub fn weights(&self, run: &RunName, position: Position, attempt: Attempt) -> String {
        self.blob(run, position, attempt, "weights")
    }

    /// The training state at a position, as one attempt wrote it.
    #[must_use]
    pub fn training_state(&self, run: &RunName, position: Position, attempt: Attempt) -> String {
        self.blob(run, position, attempt, "state")
    }

    fn blob(&self, run: &RunName, position: Position, attempt: Attempt, kind: &str) -> String {
        let folder = self.checkpoints(run);
        match position {
            Position { epoch, step: 0 } => {
                format!(
                    "{folder}/{:04}-{:03}.{kind}.safetensors",
                    epoch.0, attempt.0
                )
            }
            Position { epoch, step } => format!(
                "{folder}/{:04}-{:03}.step-{step:06}.{kind}.safetensors",
                epoch.next().0,
                attempt.0
            ),
        }
    }

    /// The result of a finished run.
    #[must_use]
    pub fn outcome(&self, run: &RunName) -> String {
        format!("{}/outcome.json", self.run(run))
    }

    /// The ensemble's evaluation.
    #[must_use]
    pub fn evaluation(&self) -> String {
        format!("{}/evaluation.json", self.experiment)
    }

    /// The ensemble's evaluation as a table for people.
    #[must_use]
    pub fn evaluation_text(&self) -> String {
        format!("{}/evaluation.txt", self.experiment)
    }
}

/// The folder of packed data sets.
const DATASETS: &str = "datasets";

/// The folder of initial weights.
const WEIGHTS: &str = "weights";

/// Folders that all experiments of a store share; no experiment has such a name.
pub const SHARED: [&str; 2] = [DATASETS, WEIGHTS];

/// The packed data set with this content.
#[must_use]
pub fn dataset(content: Checksum) -> String {
    format!("{DATASETS}/{content}.qds")
}

/// Initial weights with this content, in whatever format they were published.
#[must_use]
pub fn weights(content: Checksum) -> String {
    format!("{WEIGHTS}/{content}")
}
