//! The manifest that a checkpoint's header describes.

use quartet_history::EpochSummary;
use quartet_proto::v1;
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::clock::Timestamp;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::RunName;
use quartet_shared::position::Position;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::spec::RunSpec;
use quartet_shared::task::{LeaseId, Task};
use quartet_shared::wire::required;
use quartet_store::layout::Layout;
use quartet_store::manifest::{Manifest, StepManifest};
use tonic::Status;

use crate::experiment::Experiment;
use crate::scheduler::{CommitEnd, CommittedEpoch};
use crate::server::refusal::bad;
use crate::server::shell::Shell;
use quartet_store::Creation;

/// The manifest of an epoch, or of a mid-epoch checkpoint.
#[derive(Clone, Debug)]
pub(super) enum AnyManifest {
    Epoch(Manifest),
    MidEpoch(StepManifest),
}

impl AnyManifest {
    pub(super) fn from_header(
        experiment: &Experiment,
        header: v1::CheckpointHeader,
    ) -> Result<(LeaseId, Self), Status> {
        let layout = &experiment.layout;
        let revision = experiment.spec.revision();
        let lease: LeaseId = required(header.lease, "lease").map_err(bad)?;
        let Task::Train(run) = lease.task.clone() else {
            return Err(Status::invalid_argument("only training has checkpoints"));
        };
        let (attempt, worker) = (lease.attempt, lease.worker.clone());
        let position: Position = required(header.position, "position").map_err(bad)?;
        if position == Position::default() {
            return Err(Status::invalid_argument("nothing is done at position 0"));
        }
        let weights: Blob = required(header.weights, "weights").map_err(bad)?;
        let state: Blob = required(header.training_state, "training_state").map_err(bad)?;
        let weights = BlobRef {
            key: layout.weights(&run, position, attempt),
            blob: weights,
        };
        let training_state = BlobRef {
            key: layout.training_state(&run, position, attempt),
            blob: state,
        };
        if position.step > 0 {
            let manifest = StepManifest {
                run,
                position,
                attempt,
                worker,
                revision,
                weights,
                training_state,
            };
            return Ok((lease, Self::MidEpoch(manifest)));
        }
        let metrics: EpochMetrics = required(header.metrics, "metrics").map_err(bad)?;
        let early_stopping: EarlyStopping =
            required(header.early_stopping, "early_stopping").map_err(bad)?;
        let manifest = Manifest {
            run,
            epoch: position.epoch,
            attempt,
            worker,
            revision,
            committed_at: None,
            metrics,
            early_stopping,
            weights,
            training_state,
        };
        Ok((lease, Self::Epoch(manifest)))
    }

    /// Checks that early stopping follows from the metrics and from its state before the epoch.
    pub(super) fn check_early_stopping(&self, before: Option<EarlyStopping>) -> Result<(), Status> {
        let Self::Epoch(manifest) = self else {
            return Ok(());
        };
        let accuracy = manifest.metrics.valid_accuracy;
        if manifest.early_stopping == EarlyStopping::observe(before, manifest.epoch, accuracy) {
            return Ok(());
        }
        Err(Status::invalid_argument(
            "early stopping does not follow from the validation accuracy",
        ))
    }

    /// Checks that no file is larger than those of the run can be.
    pub(super) fn check_sizes(&self, run: &RunSpec) -> Result<(), Status> {
        let limit = run.checkpoint_limit();
        for (file, object) in ["weights", "training_state"].into_iter().zip(self.blobs()) {
            let size = object.blob.size;
            if size > limit {
                return Err(Status::invalid_argument(format!(
                    "{file}: {size} bytes are more than {limit}, the most that {} of run {} can have",
                    run.backbone, run.name
                )));
            }
        }
        Ok(())
    }

    pub(super) fn run(&self) -> &RunName {
        match self {
            Self::Epoch(manifest) => &manifest.run,
            Self::MidEpoch(manifest) => &manifest.run,
        }
    }

    pub(super) fn position(&self) -> Position {
        match self {
            Self::Epoch(manifest) => Position::end_of(manifest.epoch),
            Self::MidEpoch(manifest) => manifest.position,
        }
    }

    /// What the history keeps of it, if it is the manifest of an epoch.
    pub(super) fn epoch_summary(&self) -> Option<(RunName, EpochSummary)> {
        match self {
            Self::Epoch(manifest) => Some((manifest.run.clone(), manifest.clone().into())),
            Self::MidEpoch(_) => None,
        }
    }

    pub(super) fn metrics(&self) -> Option<&EpochMetrics> {
        match self {
            Self::Epoch(manifest) => Some(&manifest.metrics),
            Self::MidEpoch(_) => None,
        }
    }

    /// In the order of the upload.
    pub(super) fn blobs(&self) -> [&BlobRef; 2] {
        match self {
            Self::Epoch(manifest) => [&manifest.weights, &manifest.training_state],
            Self::MidEpoch(manifest) => [&manifest.weights, &manifest.training_state],
        }
    }

    fn key(&self, layout: &Layout) -> String {
        match self {
            Self::Epoch(manifest) => layout.manifest(&manifest.run, manifest.epoch),
            Self::MidEpoch(manifest) => layout.step_manifest(&manifest.run, manifest.position),
        }
    }

    /// Creates the manifest, which makes the checkpoint exist.
    pub(super) async fn create(&mut self, shell: &Shell) -> Result<Creation, Status> {
        if let Self::Epoch(manifest) = self {
            manifest.committed_at = Some(Timestamp::now());
        }
        let experiment = &shell.experiment;
        let key = self.key(&experiment.layout);
        let created = match self {
            Self::Epoch(manifest) => experiment.store.create_json(&key, manifest).await,
            Self::MidEpoch(manifest) => experiment.store.create_json(&key, manifest).await,
        };
        created.map_err(|error| shell.store_failed(error))
    }

    /// Whether this manifest is in the store, at whatever time it was written.
    pub(super) async fn is_stored(&self, shell: &Shell) -> Result<bool, Status> {
        let experiment = &shell.experiment;
        let key = self.key(&experiment.layout);
        let stored: Option<serde_json::Value> = experiment
            .store
            .read_json(&key)
            .await
            .map_err(|error| shell.store_failed(error))?;
        // As JSON: the loss of a run that diverges is NaN, which equals nothing, not even itself.
        let this = match self {
            Self::Epoch(manifest) => serde_json::to_value(manifest),
            Self::MidEpoch(manifest) => serde_json::to_value(manifest),
        };
        let timeless = |mut manifest: serde_json::Value| {
            if let Some(manifest) = manifest.as_object_mut() {
                manifest.remove("committed_at");
            }
            manifest
        };
        let this = this.ok().map(timeless);
        Ok(this.is_some() && stored.map(timeless) == this)
    }

    /// The end of the commit, once the manifest is in the store.
    pub(super) fn end(&self) -> CommitEnd {
        match self {
            Self::Epoch(manifest) => CommitEnd::Epoch(CommittedEpoch::from(manifest)),
            Self::MidEpoch(_) => CommitEnd::MidEpoch,
        }
    }
}
