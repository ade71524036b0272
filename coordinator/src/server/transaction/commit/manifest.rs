//! The manifest that a checkpoint's header describes.

use quartet_proto::v1;
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::RunName;
use quartet_shared::position::Position;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::task::{LeaseId, Task};
use quartet_shared::wire::required;
use quartet_store::layout::Layout;
use quartet_store::manifest::{Manifest, StepManifest};
use tonic::Status;

use crate::scheduler::{CommitEnd, CommittedEpoch};
use crate::server::refusal::{bad, missing};
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
        layout: &Layout,
        header: v1::CheckpointHeader,
    ) -> Result<Self, Status> {
        let LeaseId {
            task,
            attempt,
            worker,
        } = required(header.lease, "lease").map_err(bad)?;
        let Task::Train(run) = task else {
            return Err(Status::invalid_argument("only training has checkpoints"));
        };
        let position: Position = header.position.ok_or_else(|| missing("position"))?.into();
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
            return Ok(Self::MidEpoch(StepManifest {
                run,
                position,
                attempt,
                worker,
                weights,
                training_state,
            }));
        }
        let metrics: EpochMetrics = required(header.metrics, "metrics").map_err(bad)?;
        let early_stopping: EarlyStopping =
            required(header.early_stopping, "early_stopping").map_err(bad)?;
        Ok(Self::Epoch(Manifest {
            run,
            epoch: position.epoch,
            attempt,
            worker,
            metrics,
            early_stopping,
            weights,
            training_state,
        }))
    }

    pub(super) fn run(&self) -> &RunName {
        match self {
            Self::Epoch(manifest) => &manifest.run,
            Self::MidEpoch(manifest) => &manifest.run,
        }
    }

    pub(super) fn lease(&self) -> LeaseId {
        let (attempt, worker) = match self {
            Self::Epoch(manifest) => (manifest.attempt, &manifest.worker),
            Self::MidEpoch(manifest) => (manifest.attempt, &manifest.worker),
        };
        LeaseId {
            task: Task::Train(self.run().clone()),
            attempt,
            worker: worker.clone(),
        }
    }

    pub(super) fn position(&self) -> Position {
        match self {
            Self::Epoch(manifest) => Position::end_of(manifest.epoch),
            Self::MidEpoch(manifest) => manifest.position,
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
    pub(super) async fn create(&self, shell: &Shell) -> Result<Creation, Status> {
        let experiment = &shell.experiment;
        let key = self.key(&experiment.layout);
        let created = match self {
            Self::Epoch(manifest) => experiment.store.create_json(&key, manifest).await,
            Self::MidEpoch(manifest) => experiment.store.create_json(&key, manifest).await,
        };
        created.map_err(|error| shell.store_failed(error))
    }

    /// Whether exactly this manifest is in the store.
    pub(super) async fn is_stored(&self, shell: &Shell) -> Result<bool, Status> {
        let experiment = &shell.experiment;
        let key = self.key(&experiment.layout);
        let stored = match self {
            Self::Epoch(manifest) => {
                let stored = experiment.store.read_json::<Manifest>(&key).await;
                stored.map(|stored| stored.as_ref() == Some(manifest))
            }
            Self::MidEpoch(manifest) => {
                let stored = experiment.store.read_json::<StepManifest>(&key).await;
                stored.map(|stored| stored.as_ref() == Some(manifest))
            }
        };
        stored.map_err(|error| shell.store_failed(error))
    }

    /// The end of the commit, once the manifest is in the store.
    pub(super) fn end(&self) -> CommitEnd {
        match self {
            Self::Epoch(manifest) => CommitEnd::Epoch(CommittedEpoch::from(manifest)),
            Self::MidEpoch(_) => CommitEnd::MidEpoch,
        }
    }
}
