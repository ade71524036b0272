//! A new experiment: its data and weights are put into the store, then its spec.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use quartet_ingest::data;
use quartet_ingest::weights::{self, DownloadProgress, WeightSources, WeightsError};
use quartet_shared::blob::{Blob, BlobHasher, BlobRef};
use quartet_shared::clock::Timestamp;
use quartet_shared::dataset::Dataset;
use quartet_shared::ids::{ExperimentName, RunName};
use quartet_shared::spec::{RunSpec, SpecError, Weights};
use quartet_shared::{blocking, human};
use quartet_store::layout::{self, Layout};
use quartet_store::manifest::StoredSpec;
use quartet_store::spec::newest_spec;
use quartet_store::{Creation, Store};

use super::{Created, FORMAT, Mismatch, Request};

/// What failed where images cannot be read again.
const CANNOT_READ: &str = "cannot read the temporary file of the images";

/// Data to be packed, whose pixels are in a temporary file.
pub(super) struct Packed {
    dataset: Dataset,
    pub(super) blob: Blob,
    summary: String,
}

/// Reads the data and finds out what they are when packed, off the asynchronous threads.
pub(super) async fn pack(request: &Request) -> anyhow::Result<Packed> {
    let source = request.source.clone();
    let options = data::Options {
        spool: true,
        ..request.data.clone()
    };
    let packed = blocking::run(move || -> anyhow::Result<Packed> {
        let started = std::time::Instant::now();
        let loaded = data::load(&source, &options)?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let images = loaded
            .dataset
            .splits
            .each_ref()
            .map(|split| split.labels.len());
        let mut hasher = BlobHasher::default();
        for piece in loaded.dataset.pieces()? {
            hasher.update(&piece.context(CANNOT_READ)?);
        }
        let blob = hasher.finish();
        tracing::info!(
            source = %source,
            train = images[0],
            valid = images[1],
            test = images[2],
            skipped = loaded.skipped,
            images = %loaded.dataset.shape(),
            size = %human::size(blob.size),
            took = %human::duration(started.elapsed()),
            "packed the data"
        );
        let [train, valid, test] = images;
        let mut summary =
            format!("{source}: {train} training, {valid} validation, {test} test images");
        if loaded.skipped > 0 {
            summary.push_str(&format!(", {} skipped", loaded.skipped));
        }
        Ok(Packed {
            dataset: loaded.dataset,
            blob,
            summary,
        })
    });
    packed.await.context("reading the data panicked")?
}

/// The initial weights of runs: those that the store has already, and the others.
pub(super) struct InitialWeights {
    shared: BTreeMap<RunName, BlobRef>,
    others: WeightSources,
}

impl InitialWeights {
    /// Finds the weights of runs. Quick. `shared` gives the object of a run whose weights the store has.
    ///
    /// # Errors
    /// A file is not there or cannot be weights.
    pub(super) fn of(
        runs: &[RunSpec],
        shared: impl Fn(&RunSpec) -> Option<BlobRef>,
        options: weights::Options,
    ) -> Result<Self, WeightsError> {
        let mut known = BTreeMap::new();
        let mut others = Vec::new();
        for run in runs.iter().filter(|run| run.weights != Weights::None) {
            match shared(run) {
                Some(object) => drop(known.insert(run.name.clone(), object)),
                None => others.push(run.clone()),
            }
        }
        Ok(Self {
            shared: known,
            others: WeightSources::new(&others, options)?,
        })
    }

    /// Brings into the store what it does not have. Returns the objects, and what is new for people.
    ///
    /// # Errors
    /// The first weights that cannot be had; or the store fails.
    pub(super) async fn put(
        self,
        store: &Store,
        progress: &mut DownloadProgress,
    ) -> anyhow::Result<(BTreeMap<RunName, BlobRef>, Vec<String>)> {
        let found = self.others.resolve(progress).await?;
        let mut objects = weights::put(&found, store).await?;
        objects.extend(self.shared);
        let summaries = found.iter().map(weights::LocalWeights::summary);
        Ok((objects, summaries.collect()))
    }
}

/// The object of initial weights that a run of this experiment shares with another run of its name.
pub(super) fn shared(with: &StoredSpec, before: &RunSpec, run: &RunSpec) -> Option<BlobRef> {
    let is_same = before.weights == run.weights && before.backbone == run.backbone;
    let object = with.weights.get(&run.name);
    object.filter(|_| is_same).cloned()
}

/// Puts a new experiment into the store.
///
/// # Errors
/// Data or weights cannot be had, the experiment that it is a fork of is not there ([`Mismatch`]), the store
/// fails, or another coordinator has just created it.
pub(super) async fn create(
    store: &Store,
    layout: &Layout,
    request: &Request,
    progress: &mut DownloadProgress,
) -> anyhow::Result<(StoredSpec, Created)> {
    let parent = match &request.fork {
        Some(fork) => Some(parent(store, fork, &request.spec.name).await?),
        None => None,
    };
    let experiment = request.wanted(parent.as_ref().map(|parent| &parent.experiment))?;
    experiment.validate().map_err(|error| SpecError::Invalid {
        file: format!("experiment {}", experiment.name),
        error,
    })?;
    let of_parent = |run: &RunSpec| {
        let parent = parent.as_ref()?;
        shared(parent, parent.experiment.run(&run.name)?, run)
    };
    // Data and weights are checked before anything is written, the data first: that takes only seconds.
    let weights = InitialWeights::of(&experiment.runs, of_parent, request.weights.clone())?;
    let packed = match &parent {
        Some(parent) if !request.source_is_explicit => Err(parent),
        _ => Ok(pack(request).await?),
    };
    let (weights, weights_summary) = weights.put(store, progress).await?;
    let (dataset, data) = match packed {
        Ok(packed) => {
            let summary = packed.summary.clone();
            (packed.put(store).await?, summary)
        }
        Err(parent) => {
            let name = &parent.experiment.name;
            (
                parent.dataset.clone(),
                format!("those of experiment {name}"),
            )
        }
    };
    let id = format!("{:032x}", rand::random::<u128>());
    let spec = StoredSpec {
        format: FORMAT,
        id: Some(id.parse()?),
        experiment,
        dataset,
        weights,
        created_at: Some(Timestamp::now()),
        note: request.note.clone(),
        tags: request.tags.clone(),
        forked_from: request.fork.clone(),
        revised: None,
    };
    if store.create_json(&layout.spec(), &spec).await? == Creation::Exists {
        bail!(
            "another coordinator has just created experiment {}; \
             start this one again to go on with it",
            spec.experiment.name
        );
    }
    let created = Created {
        data,
        weights: weights_summary,
    };
    Ok((spec, created))
}

impl Packed {
    /// Puts the data into the store, unless it has them.
    async fn put(self, store: &Store) -> anyhow::Result<BlobRef> {
        let Self { dataset, blob, .. } = self;
        let key = layout::dataset(blob.sha256);
        if !store.exists(&key).await? {
            let mut upload = store.upload(&key);
            for piece in dataset.pieces()? {
                upload.write(piece.context(CANNOT_READ)?.into()).await?;
            }
            if let Err(found) = upload.finish(blob).await? {
                bail!("the packed data changed while it was written: {found} instead of {blob}");
            }
        }
        Ok(BlobRef { key, blob })
    }
}

/// The experiment that `child` is to be a fork of.
async fn parent(
    store: &Store,
    name: &ExperimentName,
    child: &ExperimentName,
) -> anyhow::Result<StoredSpec> {
    if name == child {
        return Err(Mismatch(format!(
            "--fork {name} needs another name for the new experiment: --name"
        ))
        .into());
    }
    let found = newest_spec(store, &Layout::new(name.clone())).await?;
    found.ok_or_else(|| {
        let location = store.location();
        Mismatch(format!(
            "--fork {name}: {location} has no experiment {name}"
        ))
        .into()
    })
}
