//! What the store says in JSON: the stored experiment, leases, and the manifests of checkpoints.

use std::collections::BTreeMap;

use quartet_shared::blob::{BlobRef, Checksum};
use quartet_shared::clock::Timestamp;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::{
    Attempt, Epoch, ExperimentId, ExperimentName, Revision, RunName, Term, WorkerId,
};
use quartet_shared::outcome::Outcome;
use quartet_shared::position::Position;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::provenance::Provenance;
use quartet_shared::report::EvaluationReport;
use quartet_shared::secret::SecretHash;
use quartet_shared::spec::ExperimentSpec;
use quartet_shared::task::Task;
use serde::{Deserialize, Serialize};

/// `spec.json`: the experiment and the data that it is trained on; later forms of it are in `revisions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredSpec {
    /// Version of the store's layout and formats.
    pub format: u32,
    /// Which experiment this is; earlier versions chose no identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ExperimentId>,
    /// What is trained.
    pub experiment: ExperimentSpec,
    /// The packed data set.
    pub dataset: BlobRef,
    /// What the source of the data looked like from outside before it was packed, as a checksum; earlier
    /// versions did not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_fingerprint: Option<Checksum>,
    /// Where the data came from and how many images there are, for people; earlier versions did not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_origin: Option<String>,
    /// Initial weights of the runs that do not start from random ones.
    #[serde(default)]
    pub weights: BTreeMap<RunName, BlobRef>,
    /// Of which checkpoints those weights are copies, where they are of other runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<RunName, CheckpointOrigin>,
    /// When it was created; earlier versions did not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// What its owner says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The experiment whose data and weights it shares, if it was begun as a fork.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<ExperimentName>,
    /// How this form of the experiment came about; absent in the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revised: Option<Revised>,
}

/// The checkpoint of another run that initial weights are a copy of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointOrigin {
    /// Its experiment.
    pub experiment: ExperimentName,
    /// The identity of that, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ExperimentId>,
    /// The run.
    pub run: RunName,
    /// Its best epoch when the copy was made.
    pub epoch: Epoch,
    /// The validation accuracy of that, a fraction of 1.
    pub valid_accuracy: f64,
}

/// How a later form of an experiment came about, and what it asks of what there was.
///
/// What follows from it (results that no longer hold are put aside) can be done again at any time, so that a
/// coordinator that is killed meanwhile loses nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revised {
    /// The number of this form.
    pub revision: Revision,
    /// When it was accepted.
    pub at: Timestamp,
    /// What is new, a line each.
    pub changes: Vec<String>,
    /// The revisions in which the training of runs last changed. Leases that were granted before have ended.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changed: BTreeMap<RunName, Revision>,
    /// The revisions with which runs have begun anew. Their checkpoints of earlier ones do not count.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub begun: BTreeMap<RunName, Revision>,
    /// The revision in which what is evaluated last changed.
    pub evaluated: Revision,
}

impl StoredSpec {
    /// The number of this form of the experiment.
    #[must_use]
    pub fn revision(&self) -> Revision {
        let revised = self.revised.as_ref();
        revised.map_or(Revision::FIRST, |revised| revised.revision)
    }

    /// The revision with which a run has begun; its checkpoints of earlier ones do not count.
    #[must_use]
    pub fn begun(&self, run: &RunName) -> Revision {
        let revised = self.revised.as_ref();
        let begun = revised.and_then(|revised| revised.begun.get(run).copied());
        begun.unwrap_or(Revision::FIRST)
    }

    /// The revision in which a task last changed; leases that were granted before have ended.
    #[must_use]
    pub fn changed(&self, task: &Task) -> Revision {
        let changed = self.revised.as_ref().and_then(|revised| match task {
            Task::Train(run) => revised.changed.get(run).copied(),
            Task::Evaluate => Some(revised.evaluated),
        });
        changed.unwrap_or(Revision::FIRST)
    }

    /// Whether an evaluation is of the runs and weights of this form.
    #[must_use]
    pub fn is_evaluated_by(&self, report: &EvaluationReport) -> bool {
        report.revision >= self.changed(&Task::Evaluate)
    }

    /// Whether an outcome follows from the last epoch of a run and from this form. It does not when the run
    /// is to be trained for longer than before.
    #[must_use]
    pub fn is_outcome_of(&self, outcome: Outcome, epoch: Epoch, state: EarlyStopping) -> bool {
        let ExperimentSpec {
            epochs, patience, ..
        } = self.experiment;
        Outcome::after(epoch, state, epochs, patience) == Some(outcome)
    }
}

/// The manifest of a committed epoch, at [`crate::layout::Layout::manifest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The run.
    pub run: RunName,
    /// The epoch that this checkpoint is the end of.
    pub epoch: Epoch,
    /// The attempt that trained it.
    pub attempt: Attempt,
    /// The worker that trained it.
    pub worker: WorkerId,
    /// The form of the experiment under which it was trained.
    #[serde(
        default = "Revision::first",
        skip_serializing_if = "Revision::is_first"
    )]
    pub revision: Revision,
    /// When it was committed, by the clock of the coordinator's machine; earlier versions did not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_at: Option<Timestamp>,
    /// The epoch's metrics.
    pub metrics: EpochMetrics,
    /// Best epoch and patience after it.
    pub early_stopping: EarlyStopping,
    /// The weights: safetensors, one tensor per parameter and running statistic.
    pub weights: BlobRef,
    /// The rest of what a resume needs: optimizer moments and counters, as safetensors.
    pub training_state: BlobRef,
}

/// The manifest of a mid-epoch checkpoint, at [`crate::layout::Layout::step_manifest`]. It lasts until a
/// later checkpoint is committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepManifest {
    /// The run.
    pub run: RunName,
    /// The position of the checkpoint.
    pub position: Position,
    /// The attempt that trained it.
    pub attempt: Attempt,
    /// The worker that trained it.
    pub worker: WorkerId,
    /// The form of the experiment under which it was trained.
    #[serde(
        default = "Revision::first",
        skip_serializing_if = "Revision::is_first"
    )]
    pub revision: Revision,
    /// The weights.
    pub weights: BlobRef,
    /// The rest of what a resume needs, with the metric totals of the epoch so far.
    pub training_state: BlobRef,
}

/// `outcome.json` of a run, at [`crate::layout::Layout::outcome`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredOutcome {
    /// The result.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The weights of the best epoch; earlier versions did not name them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_weights: Option<BlobRef>,
}

/// The manifest of a member's predictions, at [`crate::layout::Layout::predictions_manifest`]. They hold for
/// its weights, whatever becomes of the ensemble: those of other weights are of no use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredictionsManifest {
    /// The run.
    pub run: RunName,
    /// The epoch of the weights.
    pub epoch: Epoch,
    /// The attempt at the evaluation that computed them.
    pub attempt: Attempt,
    /// The worker that computed them.
    pub worker: WorkerId,
    /// The weights that they are the predictions of.
    pub weights: BlobRef,
    /// The predictions, in the format of [`quartet_shared::predictions`].
    pub predictions: BlobRef,
}

/// The record of a lease, at [`crate::layout::Layout::attempt`]: written before the worker hears of it, so
/// that no coordinator gives the same attempt again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The fencing token.
    pub attempt: Attempt,
    /// Who holds the lease.
    pub worker: WorkerId,
    /// The worker's name for people.
    pub name: String,
    /// The hash of the worker's secret; earlier versions had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretHash>,
    /// The coordinator that gave it.
    pub term: Term,
    /// The form of the experiment under which it was given.
    #[serde(
        default = "Revision::first",
        skip_serializing_if = "Revision::is_first"
    )]
    pub revision: Revision,
    /// Where the worker goes on from; the end of epoch 0 for a fresh start.
    pub resume: Position,
    /// Seconds since the Unix epoch.
    pub granted_at: u64,
    /// The worker's program and machine; earlier versions did not say it.
    #[serde(default, skip_serializing_if = "Provenance::is_empty")]
    pub provenance: Provenance,
}
