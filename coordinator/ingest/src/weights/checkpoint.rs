//! The best checkpoint of another run, as initial weights.

use std::path::Path;

use quartet_history::{HistoryError, experiments, read_epochs};
use quartet_shared::blob::BlobRef;
use quartet_shared::human;
use quartet_shared::ids::{ExperimentName, RunName};
use quartet_shared::spec::{Backbone, OtherRun, RunSpec, Variant};
use quartet_store::layout::Layout;
use quartet_store::manifest::CheckpointOrigin;
use quartet_store::spec::newest_spec;
use quartet_store::{Store, StoreError};
use serde::Deserialize;

/// Largest header of a file of weights that is read: those of our networks have a tenth.
const LARGEST_HEADER: u64 = 4 << 20;

/// The best checkpoint that another run has at the moment.
#[derive(Clone, Debug)]
pub(super) struct BestCheckpoint {
    /// Where it lies.
    pub(super) store: Store,
    /// Its weights.
    pub(super) weights: BlobRef,
    /// What it is of.
    pub(super) origin: CheckpointOrigin,
    network: SavedNetwork,
}

/// Why a run cannot start from a checkpoint of another.
#[derive(Debug, thiserror::Error)]
pub enum RunProblem {
    /// There is no such experiment, or the store fails.
    #[error(transparent)]
    Experiment(#[from] HistoryError),
    /// It is not said in which store the other run is.
    #[error("name its store, too, as in run:STORE/NAME/RUN")]
    NoStore,
    /// The experiment has no such run.
    #[error("experiment {experiment} has no run {run}; it has {}", names(.runs))]
    NoRun {
        /// The experiment.
        experiment: ExperimentName,
        /// The name asked for.
        run: RunName,
        /// Its runs.
        runs: Vec<RunName>,
    },
    /// No epoch of it is finished.
    #[error("it has not finished an epoch yet; start again when it has{}", others(.trained))]
    NoEpoch {
        /// The runs of the experiment that have.
        trained: Vec<RunName>,
    },
    /// It is of a network that the weights of this run do not fit.
    #[error("it is of {found}, this run is of {expected}")]
    OtherNetwork {
        /// What it is of.
        found: String,
        /// What the run is of.
        expected: String,
    },
    /// The checkpoint is not as this version writes them.
    #[error("its checkpoint {key} cannot be read: {reason}")]
    Unreadable {
        /// Its key in the store.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The checkpoint was deleted or changed while it was copied.
    #[error("its best checkpoint is another one now, or damaged; start again")]
    Changed,
}

impl From<StoreError> for RunProblem {
    fn from(error: StoreError) -> Self {
        match error {
            // What manifests name is deleted when there are better ones.
            StoreError::NotFound { .. } => Self::Changed,
            error => Self::Experiment(error.into()),
        }
    }
}

fn names(runs: &[RunName]) -> String {
    let names: Vec<&str> = runs.iter().map(RunName::as_str).collect();
    names.join(", ")
}

fn others(trained: &[RunName]) -> String {
    match trained {
        [] => String::new(),
        trained => format!(", or take one of these, which have: {}", names(trained)),
    }
}

/// What a checkpoint says of itself, as far as it decides whether it fits.
#[derive(Clone, Copy, Debug, Deserialize)]
struct SavedNetwork {
    backbone: Backbone,
    variant: Variant,
    width: f64,
}

/// Finds the best checkpoint of a run. `own` is the store of the experiment that is to start from it;
/// relative paths of others are relative to `folder`.
pub(super) async fn find(
    of: &OtherRun,
    own: Option<&Store>,
    folder: &Path,
) -> Result<BestCheckpoint, RunProblem> {
    let store = match &of.store {
        None => own.cloned().ok_or(RunProblem::NoStore)?,
        Some(url) if url.contains("://") => Store::open_existing(url)?,
        Some(path) => Store::open_existing(&folder.join(path).to_string_lossy())?,
    };
    let layout = Layout::new(of.experiment.clone());
    let Some(spec) = newest_spec(&store, &layout).await? else {
        return Err(RunProblem::Experiment(HistoryError::Missing {
            store: store.location().to_owned(),
            name: of.experiment.clone(),
            others: experiments(&store).await?,
        }));
    };
    let runs = &spec.experiment.runs;
    if spec.experiment.run(&of.run).is_none() {
        return Err(RunProblem::NoRun {
            experiment: of.experiment.clone(),
            run: of.run.clone(),
            runs: runs.iter().map(|run| run.name.clone()).collect(),
        });
    }
    let epochs = read_epochs(&store, &layout, &of.run, spec.begun(&of.run)).await?;
    let best = epochs.last().map(|last| last.early_stopping);
    let found = best.and_then(|best| {
        let epoch = epochs.into_iter().find(|e| e.epoch == best.best_epoch)?;
        Some((epoch, best.best_valid_accuracy))
    });
    let Some((epoch, valid_accuracy)) = found else {
        let mut trained = Vec::new();
        for run in runs {
            let epochs = read_epochs(&store, &layout, &run.name, spec.begun(&run.name)).await?;
            trained.extend((!epochs.is_empty()).then(|| run.name.clone()));
        }
        return Err(RunProblem::NoEpoch { trained });
    };
    let network = saved_network(&store, &epoch.weights).await?;
    Ok(BestCheckpoint {
        store,
        weights: epoch.weights,
        origin: CheckpointOrigin {
            experiment: of.experiment.clone(),
            id: spec.id,
            run: of.run.clone(),
            epoch: epoch.epoch,
            valid_accuracy,
        },
        network,
    })
}

impl BestCheckpoint {
    /// Whether a run can start from it.
    pub(super) fn check_fits(&self, run: &RunSpec) -> Result<(), RunProblem> {
        let SavedNetwork {
            backbone,
            variant,
            width,
        } = self.network;
        let (found, expected) = (backbone.facts(), run.backbone.facts());
        let fits = found.family == expected.family
            && expected.variants.contains(&variant)
            && width == run.width;
        match fits {
            true => Ok(()),
            false => Err(RunProblem::OtherNetwork {
                found: format!("{backbone}, variant {variant}, width {width}"),
                expected: format!("{}, width {}", run.backbone, run.width),
            }),
        }
    }

    /// For people.
    pub(super) fn summary(&self, of: &OtherRun) -> String {
        let CheckpointOrigin {
            epoch,
            valid_accuracy,
            ..
        } = &self.origin;
        let accuracy = human::percentage(*valid_accuracy);
        format!("run {of}, epoch {epoch} with {accuracy}")
    }
}

/// What the header of a file of weights in a store says of its network.
async fn saved_network(store: &Store, weights: &BlobRef) -> Result<SavedNetwork, RunProblem> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__")]
        metadata: Option<Entries>,
    }
    #[derive(Deserialize)]
    struct Entries {
        quartet: String,
    }
    #[derive(Deserialize)]
    struct Metadata {
        network: SavedNetwork,
    }
    let unreadable = |reason: String| RunProblem::Unreadable {
        key: weights.key.clone(),
        reason,
    };
    // The first eight bytes of safetensors are the length of a JSON object, which follows.
    let size = weights.blob.size;
    let start = store.read_piece(&weights.key, 0..size.min(8)).await?;
    let length = start.first_chunk().copied().map_or(0, u64::from_le_bytes);
    if length > LARGEST_HEADER.min(size.saturating_sub(8)) {
        return Err(unreadable(format!("its header has {length} bytes")));
    }
    let header = store.read_piece(&weights.key, 8..8 + length).await?;
    let header: Header = serde_json::from_slice(&header).map_err(|e| unreadable(e.to_string()))?;
    let Some(entries) = header.metadata else {
        return Err(unreadable("it does not say what it is of".to_owned()));
    };
    let metadata: Metadata =
        serde_json::from_str(&entries.quartet).map_err(|e| unreadable(e.to_string()))?;
    Ok(metadata.network)
}
