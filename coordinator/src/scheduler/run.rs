//! A training run: how far it is in the store, and how it goes back.

use std::collections::VecDeque;

use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::{Epoch, ExperimentId, RunName};
use quartet_shared::outcome::Outcome;
use quartet_shared::position::Position;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::spec::{Backbone, ExperimentSpec, RunSpec};
use quartet_shared::task::Task;
use quartet_store::manifest::Manifest;

use super::config::Config;
use super::lease::LastLease;
use super::task::{Completion, TaskRecord};
use super::time::Now;

/// What is to be trained.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSettings {
    /// The run.
    pub name: RunName,
    /// The network that it trains.
    pub backbone: Backbone,
    /// The epochs that it has at most.
    pub epochs: u32,
    /// Epochs in a row without improvement after which it stops early.
    pub patience: u32,
    /// Expected time of an epoch relative to other runs; the longest run is handed out first.
    pub cost: f64,
    /// Whether it has a weight in the ensemble.
    pub has_weight: bool,
}

impl RunSettings {
    /// Those of all runs of an experiment.
    #[must_use]
    pub fn of(spec: &ExperimentSpec) -> Vec<Self> {
        let settings = |run: &RunSpec| Self {
            name: run.name.clone(),
            backbone: run.backbone,
            epochs: spec.epochs,
            patience: spec.patience,
            cost: run.relative_cost(),
            has_weight: run.ensemble_weight > 0.0,
        };
        spec.runs.iter().map(settings).collect()
    }
}

/// The result of a committed epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CommittedEpoch {
    /// The epoch's metrics.
    pub metrics: EpochMetrics,
    /// Best epoch and patience after it.
    pub early_stopping: EarlyStopping,
}

impl From<&Manifest> for CommittedEpoch {
    fn from(manifest: &Manifest) -> Self {
        Self {
            metrics: manifest.metrics,
            early_stopping: manifest.early_stopping,
        }
    }
}

/// How far a run is in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Committed {
    /// Where its next attempt resumes.
    pub position: Position,
    /// The result of the last committed epoch; `None` before the first.
    pub last_epoch: Option<CommittedEpoch>,
}

impl Committed {
    /// The end of an epoch.
    #[must_use]
    pub fn end_of(epoch: Epoch, result: CommittedEpoch) -> Self {
        Self {
            position: Position::end_of(epoch),
            last_epoch: Some(result),
        }
    }

    /// The same epochs, and so many steps of the next one.
    #[must_use]
    pub fn with_step(self, step: u32) -> Self {
        let epoch = self.position.epoch;
        Self {
            position: Position { epoch, step },
            ..self
        }
    }
}

/// How many committed epochs are kept in memory, for people who look now and then.
const RECENT_EPOCHS: usize = 16;

/// A training run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// What is to be trained.
    pub settings: RunSettings,
    pub(super) record: TaskRecord,
    pub(super) committed: Committed,
    /// The last committed epochs, oldest first.
    recent: VecDeque<(Epoch, CommittedEpoch)>,
}

impl Run {
    /// A run that is as far as the store says. `last` is the newest lease that an older coordinator
    /// granted.
    pub(super) fn new(
        experiment: &ExperimentId,
        settings: RunSettings,
        last: Option<LastLease>,
        committed: Committed,
        outcome: Option<Outcome>,
        config: &Config,
    ) -> Self {
        let task = Task::Train(settings.name.clone());
        let newest = last.as_ref().map(|last| last.id(experiment, task));
        let mut record = TaskRecord::new(newest);
        match outcome {
            Some(outcome) => record.finish(Completion::Trained(outcome)),
            None => record.open(last, config),
        }
        let mut run = Self {
            settings,
            record,
            committed,
            recent: VecDeque::new(),
        };
        run.remember();
        run
    }

    /// Its stage, lease and attempts.
    #[must_use]
    pub fn record(&self) -> &TaskRecord {
        &self.record
    }

    /// How far it is in the store.
    #[must_use]
    pub fn committed(&self) -> &Committed {
        &self.committed
    }

    /// The last epochs that this coordinator knows of, oldest first; the last one is that of
    /// [`committed`](Self::committed).
    pub fn recent_epochs(&self) -> impl Iterator<Item = (Epoch, CommittedEpoch)> {
        self.recent.iter().copied()
    }

    /// Takes the last committed epoch, unless it is known, and forgets those after it.
    fn remember(&mut self) {
        let epoch = self.position().epoch;
        self.recent.retain(|(known, _)| *known < epoch);
        if let Some(last) = self.committed.last_epoch {
            self.recent.push_back((epoch, last));
        }
        if self.recent.len() > RECENT_EPOCHS {
            self.recent.pop_front();
        }
    }

    /// Where its next attempt resumes.
    #[must_use]
    pub fn position(&self) -> Position {
        self.committed.position
    }

    /// Whether it is trained, and its outcome stored.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.record.is_finished()
    }

    /// The run's result, if the committed epochs are all that are to be trained.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        let (epoch, settings) = (self.position().epoch, &self.settings);
        let stopping = self.committed.last_epoch?.early_stopping;
        Outcome::after(epoch, stopping, settings.epochs, settings.patience)
    }

    /// Whether the committed epochs are all that are to be trained.
    pub(super) fn is_trained(&self) -> bool {
        self.outcome().is_some()
    }

    /// Expected work that is left, relative to other runs.
    pub(super) fn remaining_cost(&self) -> f64 {
        if self.is_trained() {
            return 0.0;
        }
        let (epoch, settings) = (self.position().epoch, &self.settings);
        settings.cost * f64::from(settings.epochs.saturating_sub(epoch.0))
    }

    pub(super) fn task(&self) -> Task {
        Task::Train(self.settings.name.clone())
    }

    /// Something was committed by the run's own worker, or by an older coordinator.
    pub(super) fn commit(&mut self, committed: Committed) {
        self.committed = committed;
        self.remember();
        self.record.reset_failures();
    }

    /// Goes back to an earlier checkpoint, because of `reason`. A finished run is trained again.
    pub(super) fn roll_back(&mut self, committed: Committed, reason: String, now: Now) {
        self.committed = committed;
        self.remember();
        self.record.reopen(reason, now);
    }
}
