//! Reads experiments from a store.

use futures::{StreamExt, TryStreamExt, stream};
use quartet_shared::event::Event;
use quartet_shared::ids::{ExperimentName, InvalidName, Term};
use quartet_shared::outcome::Outcome;
use quartet_shared::spec::RunSpec;
use quartet_shared::task::Task;
use quartet_store::layout::{Layout, SHARED};
use quartet_store::manifest::{Manifest, StepManifest, StoredSpec};
use quartet_store::{Store, StoreError};
use serde::de::DeserializeOwned;

use crate::attempts::attempts;
use crate::record::{EpochSummary, ExperimentRecord, RunRecord, failure};

/// Objects that are read at once: a server answers each after tens of milliseconds.
const AT_ONCE: usize = 32;

/// Why an experiment cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The store fails, or an object in it cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such experiment.
    #[error("{store} has no experiment {name}; {}", known(.others))]
    Missing {
        /// The store.
        store: String,
        /// The name.
        name: ExperimentName,
        /// The experiments that it has.
        others: Vec<ExperimentName>,
    },
    /// A part of its place is no name.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

fn known(names: &[ExperimentName]) -> String {
    match names {
        [] => "it has none".to_owned(),
        names => {
            let names: Vec<_> = names.iter().map(ExperimentName::as_str).collect();
            format!("it has {}", names.join(", "))
        }
    }
}

/// The experiments of a store, sorted by name.
///
/// # Errors
/// The store fails.
pub async fn experiments(store: &Store) -> Result<Vec<ExperimentName>, StoreError> {
    let folders = store.folders("").await?;
    let names = folders
        .into_iter()
        .filter(|folder| !SHARED.contains(&&folder[..]));
    // What has no valid name, or no spec, is something else.
    let names: Vec<ExperimentName> = names.filter_map(|name| name.parse().ok()).collect();
    let looked = stream::iter(names).map(|name| async move {
        let key = Layout::new(name.clone()).spec();
        Ok::<_, StoreError>(store.exists(&key).await?.then_some(name))
    });
    let found: Vec<Option<ExperimentName>> = looked.buffered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Reads all that a store says of an experiment.
///
/// # Errors
/// There is no such experiment, the store fails, or an object in it cannot be read.
pub async fn read(store: &Store, name: &ExperimentName) -> Result<ExperimentRecord, HistoryError> {
    let layout = Layout::new(name.clone());
    let Some(spec) = store.read_json::<StoredSpec>(&layout.spec()).await? else {
        return Err(HistoryError::Missing {
            store: store.location().to_owned(),
            name: name.clone(),
            others: experiments(store).await?,
        });
    };
    let events = read_events(store, &layout).await?;
    let mut runs = Vec::with_capacity(spec.experiment.runs.len());
    for run in &spec.experiment.runs {
        runs.push(read_run(store, &layout, run, &events).await?);
    }
    let records = read_all(store, &layout.attempts(&Task::Evaluate)).await?;
    let term = newest_term(store, &layout.coordinators()).await?;
    Ok(ExperimentRecord {
        runs,
        evaluation_attempts: attempts(&Task::Evaluate, records, &events),
        report: store.read_json(&layout.evaluation()).await?,
        events,
        term,
        closed: term.is_some() && newest_term(store, &layout.all_closed()).await? == term,
        spec,
    })
}

async fn read_run(
    store: &Store,
    layout: &Layout,
    run: &RunSpec,
    events: &[Event],
) -> Result<RunRecord, StoreError> {
    let name = &run.name;
    let task = Task::Train(name.clone());
    let manifests: Vec<Manifest> = read_all(store, &layout.manifests(name)).await?;
    let mut epochs: Vec<_> = manifests
        .into_iter()
        .map(|manifest| EpochSummary {
            epoch: manifest.epoch,
            attempt: manifest.attempt,
            committed_at: manifest.committed_at,
            metrics: manifest.metrics,
            early_stopping: manifest.early_stopping,
            weights: manifest.weights,
        })
        .collect();
    epochs.sort_by_key(|epoch| epoch.epoch);
    let last = epochs
        .last()
        .map_or_else(Default::default, |epoch| epoch.epoch);
    let steps: Vec<StepManifest> = read_all(store, &layout.step_manifests(name)).await?;
    let positions = steps.into_iter().map(|manifest| manifest.position);
    let outcome: Option<Outcome> = store.read_json(&layout.outcome(name)).await?;
    let records = read_all(store, &layout.attempts(&task)).await?;
    Ok(RunRecord {
        mid_epoch: positions.filter(|position| position.epoch == last).max(),
        attempts: attempts(&task, records, events),
        failure: failure(events, &task)
            .filter(|_| outcome.is_none())
            .map(str::to_owned),
        outcome,
        epochs,
        spec: run.clone(),
    })
}

async fn read_events(store: &Store, layout: &Layout) -> Result<Vec<Event>, StoreError> {
    let lists: Vec<Vec<Event>> = read_all(store, &layout.all_events()).await?;
    Ok(lists.into_iter().flatten().collect())
}

/// The values of the JSON objects of a folder, in the order of their keys. One that vanishes meanwhile, as
/// manifests do after a commit, is left out.
async fn read_all<T: DeserializeOwned>(store: &Store, folder: &str) -> Result<Vec<T>, StoreError> {
    let keys = store.list(folder).await?;
    let keys = keys.into_iter().filter(|key| key.ends_with(".json"));
    let values = stream::iter(keys).map(|key| async move { store.read_json::<T>(&key).await });
    let values: Vec<Option<T>> = values.buffered(AT_ONCE).try_collect().await?;
    Ok(values.into_iter().flatten().collect())
}

/// The newest term that has an object in a folder.
async fn newest_term(store: &Store, folder: &str) -> Result<Option<Term>, StoreError> {
    let newest = store.newest(folder).await?;
    let name = newest
        .as_ref()
        .and_then(|key| key.rsplit('/').next()?.strip_suffix(".json"));
    Ok(name.and_then(|name| name.parse().ok()).map(Term))
}
