//! An experiment that is submitted: its data and weights are in the store already.

use std::collections::BTreeMap;
use std::path::PathBuf;

use quartet_ingest::args;
use quartet_ingest::weights::{
    self, DownloadProgress, FoundWeights, HubConfig, StoredWeights, WeightSources, WeightsError,
};
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::clock::Timestamp;
use quartet_shared::dataset::Split;
use quartet_shared::ids::RunName;
use quartet_shared::spec::{ExperimentSpec, RunSpec, Weights, changes};
use quartet_shared::terminal::Mode;
use quartet_store::layout::{self, Layout};
use quartet_store::manifest::{CheckpointOrigin, StoredSpec};
use quartet_store::spec::newest_spec;
use quartet_store::{Creation, Store, StoreError};

use super::create::warn_of_frozen_noise;
use super::{FORMAT, new_identity};

/// What is submitted.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    pub(crate) experiment: ExperimentSpec,
    pub(crate) dataset: Blob,
    /// Where the data came from, for people.
    pub(crate) data_origin: Option<String>,
    /// Of the runs that start from some, but for those of other runs of the store.
    pub(crate) weights: BTreeMap<RunName, Blob>,
    /// Of which checkpoints those are copies.
    pub(crate) origins: BTreeMap<RunName, CheckpointOrigin>,
    pub(crate) note: Option<String>,
    pub(crate) tags: Vec<String>,
}

/// Why a submission is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmitError {
    /// It cannot be trained.
    #[error("{0}")]
    Invalid(String),
    /// The store has another experiment of this name.
    #[error("{0}")]
    Exists(String),
    /// Another store fails.
    #[error("{0}")]
    Unavailable(String),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Submission {
    /// Puts the experiment into the store, unless it has it already. Returns what is to be said of the
    /// weights that were found there.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub(crate) async fn put(self, store: &Store) -> Result<Vec<String>, SubmitError> {
        self.check()?;
        let name = self.experiment.name.clone();
        let dataset = BlobRef {
            key: layout::dataset(self.dataset.sha256),
            blob: self.dataset,
        };
        let weights = self.weights.iter().map(|(run, blob)| {
            let key = layout::weights(blob.sha256);
            (run.clone(), BlobRef { key, blob: *blob })
        });
        let mut weights: BTreeMap<_, _> = weights.collect();
        let layout = Layout::new(name.clone());
        if let Some(stored) = newest_spec(store, &layout).await? {
            let same = stored.experiment == self.experiment
                && stored.dataset == dataset
                // The best checkpoint of another run may be another one by now.
                && weights.iter().all(|(run, object)| stored.weights.get(run) == Some(object));
            let place = store.display_key(&layout.revision(stored.revision()));
            return match same {
                true => Ok(Vec::new()),
                false => {
                    let differ = changes(&stored.experiment, &self.experiment).into_iter();
                    let mut differ: Vec<_> = differ.map(|change| change.to_string()).collect();
                    if stored.dataset != dataset {
                        differ.push("other data".to_owned());
                    }
                    if differ.is_empty() {
                        differ.push("other weights".to_owned());
                    }
                    Err(SubmitError::Exists(format!(
                        "the store has another experiment {name}: {} ({place}); choose another name with \
                         --name, or change it with `coordinator --name {name} --update`",
                        differ.join(", ")
                    )))
                }
            };
        }
        for object in weights.values().chain([&dataset]) {
            if !store.exists(&object.key).await? {
                let key = &object.key;
                return Err(SubmitError::Invalid(format!("the store has no {key}")));
            }
        }
        check_dataset(store, &dataset).await?;
        let (of_store, found) = self.of_store(store).await?;
        warn_of_frozen_noise(&self.experiment);
        weights.extend(of_store.objects);
        let mut origins = self.origins;
        origins.extend(of_store.origins);
        let spec = StoredSpec {
            format: FORMAT,
            id: Some(new_identity()),
            experiment: self.experiment,
            dataset,
            // Only the machine that has the data could look at them again.
            data_fingerprint: None,
            data_origin: self.data_origin,
            weights,
            origins,
            created_at: Some(Timestamp::now()),
            note: self.note,
            tags: self.tags,
            forked_from: None,
            revised: None,
        };
        if store.create_json(&layout.spec(), &spec).await? == Creation::Exists {
            // The answer to a first try may have been lost.
            let there: Option<StoredSpec> = store.read_json(&layout.spec()).await?;
            if there.as_ref() != Some(&spec) {
                return Err(SubmitError::Exists(format!(
                    "another coordinator has just created experiment {name}"
                )));
            }
        }
        Ok(found)
    }

    /// Copies the checkpoints of other runs of the store that runs start from.
    async fn of_store(&self, store: &Store) -> Result<(StoredWeights, Vec<String>), SubmitError> {
        let runs = self.experiment.runs.iter().filter(|run| is_of_store(run));
        let runs: Vec<_> = runs.cloned().collect();
        let options = weights::Options {
            folder: PathBuf::new(),
            hub: HubConfig::from_env(),
        };
        let invalid = |error: WeightsError| match error.is_of_store() {
            true => SubmitError::Unavailable(error.to_string()),
            false => SubmitError::Invalid(error.to_string()),
        };
        let sources = WeightSources::new(&runs, Some(store), options).await;
        let mut progress = DownloadProgress::new(Box::new(std::io::sink()), Mode::Lines);
        let found = sources.map_err(invalid)?.resolve(&mut progress).await;
        let found = found.map_err(invalid)?;
        let stored = weights::put(&found, store).await.map_err(|error| {
            match error.downcast::<StoreError>() {
                Ok(error) => SubmitError::Store(error),
                Err(error) => SubmitError::Invalid(format!("{error:#}")),
            }
        })?;
        let summaries = found.iter().map(FoundWeights::summary);
        Ok((stored, summaries.collect()))
    }

    /// Checks what needs no store.
    fn check(&self) -> Result<(), SubmitError> {
        let invalid = |problem: String| Err(SubmitError::Invalid(problem));
        let name = &self.experiment.name;
        if let Err(error) = self.experiment.validate() {
            return invalid(format!("experiment {name}: {error}"));
        }
        let starts = |run: &&RunSpec| run.weights != Weights::None && !is_of_store(run);
        let wanted: Vec<_> = self.experiment.runs.iter().filter(starts).collect();
        if let Some(run) = wanted
            .iter()
            .find(|run| !self.weights.contains_key(&run.name))
        {
            return invalid(format!("run {} lacks its weights", run.name));
        }
        if self.weights.len() != wanted.len() {
            return invalid("there are weights of runs that start from none".to_owned());
        }
        if let Some(Err(problem)) = self.note.as_deref().map(args::note) {
            return invalid(format!("note: {problem}"));
        }
        for tag in &self.tags {
            if let Err(problem) = args::tag(tag) {
                return invalid(format!("tag: {problem}"));
            }
        }
        Ok(())
    }
}

/// Whether a run starts from a checkpoint of another run of its store.
fn is_of_store(run: &RunSpec) -> bool {
    matches!(&run.weights, Weights::Run(of) if of.store.is_none())
}

/// Checks that an object is a data set to train on.
async fn check_dataset(store: &Store, dataset: &BlobRef) -> Result<(), SubmitError> {
    let index = match store.read_index(&dataset.key).await {
        Ok(index) => index,
        Err(error) if error.is_of_content() => return Err(SubmitError::Invalid(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    if index.size() != dataset.blob.size {
        return Err(SubmitError::Invalid(format!(
            "the data set has {} bytes where its beginning says {}",
            dataset.blob.size,
            index.size()
        )));
    }
    for split in [Split::Train, Split::Valid] {
        if index.labels(split).is_empty() {
            return Err(SubmitError::Invalid(format!(
                "the data set has no {split} images"
            )));
        }
    }
    Ok(())
}
