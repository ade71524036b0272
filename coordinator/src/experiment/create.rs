//! A new experiment: its data and weights are put into the store, then its spec.

use anyhow::bail;
use quartet_ingest::fingerprint;
use quartet_ingest::packed::{self, Packed};
use quartet_ingest::weights::{
    self, DownloadProgress, FoundWeights, StoredWeights, WeightSources, WeightsError,
};
use quartet_shared::blocking;
use quartet_shared::clock::Timestamp;
use quartet_shared::ids::ExperimentName;
use quartet_shared::spec::{ExperimentSpec, Freeze, RunSpec, SpecError, Weights};
use quartet_store::layout::Layout;
use quartet_store::manifest::StoredSpec;
use quartet_store::spec::newest_spec;
use quartet_store::{Creation, Store};

use super::{Created, FORMAT, Mismatch, Request, new_identity};

/// Whether the source that is asked for looks as it did when the data of a stored experiment were packed.
/// Then it need not be read again.
pub(super) async fn is_packed(request: &Request, stored: &StoredSpec) -> bool {
    let Some(packed) = stored.data_fingerprint else {
        return false;
    };
    let (source, options) = (request.source.clone(), request.data.clone());
    let found = blocking::run(move || fingerprint(&source, &options)).await;
    let is_packed = found.is_ok_and(|found| found.is_ok_and(|found| found == packed));
    if is_packed {
        tracing::info!(
            source = %request.source,
            "nobody has changed the data since they were packed; they are not read again"
        );
    }
    is_packed
}

/// Reads the data that are asked for.
pub(super) async fn pack(request: &Request) -> anyhow::Result<Packed> {
    packed::pack(request.source.clone(), request.data.clone()).await
}

/// The initial weights of runs: those that the store has already, and the others.
pub(super) struct InitialWeights {
    shared: StoredWeights,
    others: WeightSources,
}

impl InitialWeights {
    /// Finds the weights of runs. Quick. `with` gives the stored experiment that has the weights of a run
    /// already.
    ///
    /// # Errors
    /// A file or checkpoint is not there or cannot be the weights.
    pub(super) async fn of<'a>(
        runs: &[RunSpec],
        store: &Store,
        with: impl Fn(&RunSpec) -> Option<&'a StoredSpec>,
        options: weights::Options,
    ) -> Result<Self, WeightsError> {
        let mut shared = StoredWeights::default();
        let mut others = Vec::new();
        for run in runs.iter().filter(|run| run.weights != Weights::None) {
            let name = &run.name;
            let found = with(run).and_then(|with| Some((with, with.weights.get(name)?)));
            let Some((with, object)) = found else {
                others.push(run.clone());
                continue;
            };
            shared.objects.insert(name.clone(), object.clone());
            let origin = with.origins.get(name).cloned();
            shared
                .origins
                .extend(origin.map(|origin| (name.clone(), origin)));
        }
        Ok(Self {
            shared,
            others: WeightSources::new(&others, Some(store), options).await?,
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
    ) -> anyhow::Result<(StoredWeights, Vec<String>)> {
        let found = self.others.resolve(progress).await?;
        let mut stored = weights::put(&found, store).await?;
        stored.objects.extend(self.shared.objects);
        stored.origins.extend(self.shared.origins);
        let summaries = found.iter().map(FoundWeights::summary);
        Ok((stored, summaries.collect()))
    }
}

/// Whether a run starts from the weights that another run of its name starts from.
pub(super) fn has_same_weights(before: &RunSpec, run: &RunSpec) -> bool {
    before.weights == run.weights && before.backbone == run.backbone
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
        let before = parent.experiment.run(&run.name)?;
        has_same_weights(before, run).then_some(parent)
    };
    // Data and weights are checked before anything is written, the data first: that takes only seconds.
    let options = request.weights.clone();
    let weights = InitialWeights::of(&experiment.runs, store, of_parent, options).await?;
    let packed = match &parent {
        Some(parent) if !request.source_is_explicit => Err(parent),
        _ => Ok(pack(request).await?),
    };
    let (weights, weights_summary) = weights.put(store, progress).await?;
    let (dataset, data_fingerprint, data_origin, data) = match packed {
        Ok(packed) => {
            let (fingerprint, summary) = (packed.fingerprint, packed.summary.clone());
            let dataset = packed.put(store).await?;
            (dataset, fingerprint, Some(summary.clone()), summary)
        }
        Err(parent) => {
            let summary = format!("those of experiment {}", parent.experiment.name);
            let (fingerprint, origin) = (parent.data_fingerprint, parent.data_origin.clone());
            (parent.dataset.clone(), fingerprint, origin, summary)
        }
    };
    warn_of_frozen_noise(&experiment);
    let spec = StoredSpec {
        format: FORMAT,
        id: Some(new_identity()),
        experiment,
        dataset,
        data_fingerprint,
        data_origin,
        weights: weights.objects,
        origins: weights.origins,
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

/// Frozen layers keep what they begin with.
pub(super) fn warn_of_frozen_noise(experiment: &ExperimentSpec) {
    for run in &experiment.runs {
        if run.freeze != Freeze::None && run.weights == Weights::None {
            tracing::warn!(
                run = %run.name,
                "freeze = \"{}\" keeps random values, as the run starts from no weights",
                run.freeze
            );
        }
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
