//! The keys of the object store, in one place.
//!
//! ```text
//! datasets/<sha256>.qds
//! weights/<sha256>
//! _queue/coordinators/<term>.json
//! _queue/closed/<term>.json
//! _queue/entries/<number>.json
//! _queue/ended/<number>.json
//! <experiment>/spec.json
//! <experiment>/revisions/<revision>.json
//! <experiment>/coordinators/<term>.json
//! <experiment>/closed/<term>.json
//! <experiment>/events/<term>-<number>.json
//! <experiment>/runs/<run>/attempts/<attempt>.json
//! <experiment>/runs/<run>/logs/<attempt>/<number>.log
//! <experiment>/runs/<run>/epochs/<epoch>.json
//! <experiment>/runs/<run>/steps/<epoch>-<step>.json
//! <experiment>/runs/<run>/checkpoints/<epoch>-<attempt>.weights.safetensors
//! <experiment>/runs/<run>/checkpoints/<epoch>-<attempt>.state.safetensors
//! <experiment>/runs/<run>/checkpoints/<epoch>-<attempt>.step-<step>.weights.safetensors
//! <experiment>/runs/<run>/checkpoints/<epoch>-<attempt>.step-<step>.state.safetensors
//! <experiment>/runs/<run>/predictions/<epoch>-<attempt>.json
//! <experiment>/runs/<run>/predictions/<epoch>-<attempt>.safetensors
//! <experiment>/runs/<run>/discarded/<term>/*.json
//! <experiment>/runs/<run>/outcome.json
//! <experiment>/evaluation/attempts/<attempt>.json
//! <experiment>/evaluation/logs/<attempt>/<number>.log
//! <experiment>/evaluation.json
//! <experiment>/evaluation.txt
//! <experiment>/predictions.csv
//! <experiment>/report.html
//! <experiment>/partial/<attempt>/*
//! <experiment>/earlier/<revision>/*
//! <experiment>/tensorboard/<event file>
//! <experiment>/tensorboard/<run>/<event file>
//! <experiment>/tensorboard/<run>/train/<event file>
//! <experiment>/tensorboard/<run>/validation/<event file>
//! ```
//! A folder in `partial` has the same four files as the experiment: the evaluation without runs that failed.
//! So has one in `earlier`: the evaluation of a form of the experiment that has changed since.
//! The folder of TensorBoard's files of a run that has begun anew has `@<revision>` after its name.
//! Epochs and attempts are written with leading zeros, so that a listing is in order. An event file's name is
//! `events.out.tfevents.<number>.quartet`.

use quartet_shared::blob::Checksum;
use quartet_shared::ids::{Attempt, Epoch, ExperimentName, Revision, RunName, Term};
use quartet_shared::position::Position;
use quartet_shared::task::Task;

mod claims;
pub mod queue;
mod results;

pub use claims::Claims;
pub use results::Results;

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

    /// What is trained, in its first form.
    #[must_use]
    pub fn spec(&self) -> String {
        format!("{}/spec.json", self.experiment)
    }

    /// The folder of its later forms.
    #[must_use]
    pub fn revisions(&self) -> String {
        format!("{}/revisions", self.experiment)
    }

    /// A form of what is trained.
    #[must_use]
    pub fn revision(&self, revision: Revision) -> String {
        match revision {
            Revision::FIRST => self.spec(),
            Revision(later) => format!("{}/{later:04}.json", self.revisions()),
        }
    }

    /// Who leads the experiment.
    #[must_use]
    pub fn claims(&self) -> Claims {
        Claims(self.experiment.to_string())
    }

    /// The folder of what has happened.
    #[must_use]
    pub fn all_events(&self) -> String {
        format!("{}/events", self.experiment)
    }

    /// Some of what happened in a term: a list of events; numbers begin at 1.
    #[must_use]
    pub fn events(&self, term: Term, number: u32) -> String {
        format!("{}/{:06}-{number:06}.json", self.all_events(), term.0)
    }

    fn run(&self, run: &RunName) -> String {
        format!("{}/runs/{run}", self.experiment)
    }

    /// Whether an object lies in the folder of a run.
    #[must_use]
    pub fn is_of_run(&self, run: &RunName, key: &str) -> bool {
        let rest = key.strip_prefix(&self.run(run));
        rest.is_some_and(|rest| rest.starts_with('/'))
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

    /// The folder of a run's manifests of mid-epoch checkpoints.
    #[must_use]
    pub fn step_manifests(&self, run: &RunName) -> String {
        format!("{}/steps", self.run(run))
    }

    /// The manifest of a mid-epoch checkpoint; the key names the epoch in progress.
    #[must_use]
    pub fn step_manifest(&self, run: &RunName, position: Position) -> String {
        let epoch = position.epoch.next().0;
        let folder = self.step_manifests(run);
        format!("{folder}/{epoch:04}-{:06}.json", position.step)
    }

    fn task(&self, task: &Task) -> String {
        match task {
            Task::Train(run) => self.run(run),
            Task::Evaluate => format!("{}/evaluation", self.experiment),
        }
    }

    /// The folder of a task's attempts.
    #[must_use]
    pub fn attempts(&self, task: &Task) -> String {
        format!("{}/attempts", self.task(task))
    }

    /// The folder of what the worker of an attempt has logged.
    #[must_use]
    pub fn log(&self, task: &Task, attempt: Attempt) -> String {
        format!("{}/logs/{:04}", self.task(task), attempt.0)
    }

    /// A part of it; numbers begin at 1.
    #[must_use]
    pub fn log_part(&self, task: &Task, attempt: Attempt, number: u32) -> String {
        format!("{}/{number:06}.log", self.log(task, attempt))
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

    /// Position and attempt of a checkpoint blob, `None` for other keys.
    #[must_use]
    pub fn parse_blob(&self, run: &RunName, key: &str) -> Option<(Position, Attempt)> {
        let name = key
            .strip_prefix(&self.checkpoints(run))?
            .strip_prefix('/')?;
        let mut parts = name.split('.');
        let (epoch, attempt) = parts.next()?.split_once('-')?;
        let (epoch, attempt) = (Epoch(epoch.parse().ok()?), Attempt(attempt.parse().ok()?));
        let position = match parts.next()?.strip_prefix("step-") {
            Some(step) => Position::within(epoch, step.parse().ok()?),
            None => Position::end_of(epoch),
        };
        let known = [
            self.weights(run, position, attempt),
            self.training_state(run, position, attempt),
        ];
        known
            .iter()
            .any(|known| known == key)
            .then_some((position, attempt))
    }

    /// The folder of what a run's best network says of the evaluated images.
    #[must_use]
    pub fn all_predictions(&self, run: &RunName) -> String {
        format!("{}/predictions", self.run(run))
    }

    /// The predictions of a run's network after an epoch, as an attempt at the evaluation computed them.
    #[must_use]
    pub fn predictions(&self, run: &RunName, epoch: Epoch, attempt: Attempt) -> String {
        self.of_predictions(run, epoch, attempt, "safetensors")
    }

    /// The manifest of predictions.
    #[must_use]
    pub fn predictions_manifest(&self, run: &RunName, epoch: Epoch, attempt: Attempt) -> String {
        self.of_predictions(run, epoch, attempt, "json")
    }

    fn of_predictions(&self, run: &RunName, epoch: Epoch, attempt: Attempt, kind: &str) -> String {
        let folder = self.all_predictions(run);
        format!("{folder}/{:04}-{:03}.{kind}", epoch.0, attempt.0)
    }

    /// Whether a key is that of a run's predictions.
    fn is_predictions(&self, run: &RunName, key: &str) -> bool {
        let parse = || {
            let name = key
                .strip_prefix(&self.all_predictions(run))?
                .strip_prefix('/')?;
            let (epoch, attempt) = name.strip_suffix(".safetensors")?.split_once('-')?;
            let (epoch, attempt) = (Epoch(epoch.parse().ok()?), Attempt(attempt.parse().ok()?));
            Some(self.predictions(run, epoch, attempt))
        };
        parse().is_some_and(|known| known == key)
    }

    /// Whether an object is one that workers read: a packed data set, initial weights, or a part of a
    /// checkpoint of this experiment or its predictions.
    #[must_use]
    pub fn is_for_workers(&self, key: &str) -> bool {
        let of_run = |rest: &str| {
            let run = rest.split_once('/').and_then(|(run, _)| run.parse().ok());
            run.is_some_and(|run| {
                self.parse_blob(&run, key).is_some() || self.is_predictions(&run, key)
            })
        };
        let runs = key.strip_prefix(&format!("{}/runs/", self.experiment));
        let content = |name: &str| Checksum::try_from(name.to_owned()).ok();
        runs.is_some_and(of_run)
            || key.strip_prefix(DATASETS).is_some_and(|name| {
                let name = name.strip_prefix('/').and_then(|n| n.strip_suffix(".qds"));
                name.and_then(content)
                    .is_some_and(|sum| dataset(sum) == key)
            })
            || key.strip_prefix(WEIGHTS).is_some_and(|name| {
                let name = name.strip_prefix('/');
                name.and_then(content)
                    .is_some_and(|sum| weights(sum) == key)
            })
    }

    /// The folder of a run's manifests that were taken out of use: their checkpoints are corrupt, or do not
    /// count since the experiment was changed.
    #[must_use]
    pub fn discarded(&self, run: &RunName) -> String {
        format!("{}/discarded", self.run(run))
    }

    /// The result of a finished run.
    #[must_use]
    pub fn outcome(&self, run: &RunName) -> String {
        format!("{}/outcome.json", self.run(run))
    }

    /// The folder that holds all of TensorBoard's event files: its `--logdir`.
    #[must_use]
    pub fn tensorboard(&self) -> String {
        format!("{}/tensorboard", self.experiment)
    }

    /// An event file. TensorBoard takes files whose names contain `tfevents` and reads those of a folder in
    /// the order of their names; the number has up to 10 digits.
    #[must_use]
    pub fn event_file(&self, folder: EventFolder<'_>, number: u64) -> String {
        let root = self.tensorboard();
        let folder = match folder {
            EventFolder::Experiment => root,
            EventFolder::Run(run, begun) => format!("{root}/{}", shown(run, begun)),
            EventFolder::Train(run, begun) => format!("{root}/{}/train", shown(run, begun)),
            EventFolder::Validation(run, begun) => {
                format!("{root}/{}/validation", shown(run, begun))
            }
        };
        format!("{folder}/events.out.tfevents.{number:010}.quartet")
    }
}

/// What TensorBoard calls a run: one that has begun anew is another to it, and so is what was before.
fn shown(run: &RunName, begun: Revision) -> String {
    match begun {
        Revision::FIRST => run.to_string(),
        // No run's name has such a character.
        later => format!("{run}@{later}"),
    }
}

/// What a folder of TensorBoard's event files is about. TensorBoard shows each folder as a run of its own. A
/// run comes with the revision of the experiment with which it has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFolder<'a> {
    /// The experiment.
    Experiment,
    /// A run.
    Run(&'a RunName, Revision),
    /// The training of a run.
    Train(&'a RunName, Revision),
    /// The validation of a run.
    Validation(&'a RunName, Revision),
}

/// The folders of packed data sets and of initial weights, which all experiments of a store share.
pub const SHARED: [&str; 2] = ExperimentName::RESERVED;
const DATASETS: &str = SHARED[0];
const WEIGHTS: &str = SHARED[1];

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

#[cfg(test)]
mod tests;
