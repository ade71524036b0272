//! What the store says in JSON: the stored experiment, leases, and the manifests of checkpoints.

use std::collections::BTreeMap;

use quartet_shared::blob::BlobRef;
use quartet_shared::clock::Timestamp;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::{Attempt, Epoch, ExperimentId, RunName, Term, WorkerId};
use quartet_shared::position::Position;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::provenance::Provenance;
use quartet_shared::secret::SecretHash;
use quartet_shared::spec::ExperimentSpec;
use serde::{Deserialize, Serialize};

/// `spec.json`: the experiment and the data that it is trained on.
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
    /// Initial weights of the runs that do not start from random ones.
    #[serde(default)]
    pub weights: BTreeMap<RunName, BlobRef>,
    /// When it was created; earlier versions did not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// What its owner says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
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
    /// The weights.
    pub weights: BlobRef,
    /// The rest of what a resume needs, with the metric totals of the epoch so far.
    pub training_state: BlobRef,
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
    /// Where the worker goes on from; the end of epoch 0 for a fresh start.
    pub resume: Position,
    /// Seconds since the Unix epoch.
    pub granted_at: u64,
    /// The worker's program and machine; earlier versions did not say it.
    #[serde(default, skip_serializing_if = "Provenance::is_empty")]
    pub provenance: Provenance,
}
