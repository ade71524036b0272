//! Reads experiments from a store.

use futures::{StreamExt, TryStreamExt, stream};
use quartet_shared::event::Event;
use quartet_shared::ids::{ExperimentName, Revision, RunName, Term};
use quartet_shared::outcome::Outcome;
use quartet_shared::report::EvaluationReport;
use quartet_shared::spec::RunSpec;
use quartet_shared::task::Task;
use quartet_store::evaluation::newest_evaluation;
use quartet_store::layout::{Layout, SHARED};
use quartet_store::manifest::{Manifest, StoredSpec};
use quartet_store::spec::newest_spec;
use quartet_store::{Store, StoreError};
use serde::de::DeserializeOwned;

use crate::attempts::recorded;
use crate::record::{EpochSummary, ExperimentRecord, RunRecord};
use crate::update::{MAX_EVENTS, forget_fleet};

/// Objects that are read at once: a server answers each after tens of milliseconds.
const AT_ONCE: usize = 32;

/// Why an experiment cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The store fails, or the experiment's spec cannot be read.
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
/// There is no such experiment, or the store fails.
pub async fn read(store: &Store, name: &ExperimentName) -> Result<ExperimentRecord, HistoryError> {
    read_before(store, name, None).await
}

/// The same without the events of the term `before` and of those after it: for the coordinator that claims
/// it, which knows them.
///
/// # Errors
/// There is no such experiment, or the store fails.
pub async fn read_before(
    store: &Store,
    name: &ExperimentName,
    before: Option<Term>,
) -> Result<ExperimentRecord, HistoryError> {
    let layout = Layout::new(name.clone());
    let Some(spec) = newest_spec(store, &layout).await? else {
        return Err(HistoryError::Missing {
            store: store.location().to_owned(),
            name: name.clone(),
            others: experiments(store).await?,
        });
    };
    let mut reader = Reader {
        store,
        unreadable: Vec::new(),
    };
    let mut runs = Vec::with_capacity(spec.experiment.runs.len());
    for run in &spec.experiment.runs {
        runs.push(reader.run(&layout, &spec, run).await?);
    }
    let evaluation_attempts = recorded(reader.all(&layout.attempts(&Task::Evaluate)).await?);
    let newest = newest_term(store, &layout.claims().all()).await?;
    let closed = newest_term(store, &layout.claims().all_closed()).await?;
    let report = reader.report(&layout).await?;
    let report = report.filter(|report| spec.is_evaluated_by(report));
    let end = before.map(|term| layout.events(term, 0));
    let events = reader.events(&layout, end.as_deref()).await?;
    let mut record = ExperimentRecord {
        runs,
        evaluation_attempts,
        evaluation_failure: None,
        report: None,
        events: Vec::new(),
        term: None,
        closed: false,
        unreadable: reader.unreadable,
        spec,
    };
    // Of epochs and outcomes the objects say more than events, of which the last may be missing.
    let objects: Vec<_> = record
        .runs
        .iter_mut()
        .map(|run| (std::mem::take(&mut run.epochs), run.outcome))
        .collect();
    for event in &events {
        record.tell(event);
    }
    for (run, (epochs, outcome)) in record.runs.iter_mut().zip(objects) {
        run.failure = run.failure.take().filter(|_| outcome.is_none());
        (run.epochs, run.outcome) = (epochs, outcome);
    }
    record.events = events;
    record.term = newest;
    record.closed = newest.is_some() && closed == newest;
    record.set_report(report);
    forget_fleet(&mut record.events, MAX_EVENTS);
    Ok(record)
}

/// The committed epochs of a run that has begun with this revision of the experiment, in order.
///
/// # Errors
/// The store fails.
pub async fn read_epochs(
    store: &Store,
    layout: &Layout,
    run: &RunName,
    begun: Revision,
) -> Result<Vec<EpochSummary>, StoreError> {
    let mut reader = Reader {
        store,
        unreadable: Vec::new(),
    };
    reader.epochs(layout, run, begun).await
}

struct Reader<'a> {
    store: &'a Store,
    unreadable: Vec<String>,
}

impl Reader<'_> {
    async fn run(
        &mut self,
        layout: &Layout,
        spec: &StoredSpec,
        run: &RunSpec,
    ) -> Result<RunRecord, StoreError> {
        let task = Task::Train(run.name.clone());
        let epochs = self
            .epochs(layout, &run.name, spec.begun(&run.name))
            .await?;
        let outcome: Option<Outcome> = self.one(&layout.outcome(&run.name)).await?;
        // Until the coordinator has put it aside, one of an earlier form may be there.
        let holds = |outcome: &Outcome| {
            let last = epochs.last();
            spec.revised.is_none()
                || last.is_some_and(|e| spec.is_outcome_of(*outcome, e.epoch, e.early_stopping))
        };
        Ok(RunRecord {
            spec: run.clone(),
            outcome: outcome.filter(holds),
            epochs,
            attempts: recorded(self.all(&layout.attempts(&task)).await?),
            failure: None,
        })
    }

    async fn epochs(
        &mut self,
        layout: &Layout,
        run: &RunName,
        begun: Revision,
    ) -> Result<Vec<EpochSummary>, StoreError> {
        let mut manifests: Vec<Manifest> = self.all(&layout.manifests(run)).await?;
        manifests.retain(|manifest| manifest.revision >= begun);
        let mut epochs: Vec<_> = manifests.into_iter().map(EpochSummary::from).collect();
        epochs.sort_by_key(|epoch| epoch.epoch);
        Ok(epochs)
    }

    async fn events(
        &mut self,
        layout: &Layout,
        end: Option<&str>,
    ) -> Result<Vec<Event>, StoreError> {
        let mut keys = self.store.list(&layout.all_events()).await?;
        keys.retain(|key| end.is_none_or(|end| &key[..] < end));
        let lists: Vec<Vec<Event>> = self.values(keys).await?;
        Ok(lists.into_iter().flatten().collect())
    }

    async fn report(&mut self, layout: &Layout) -> Result<Option<EvaluationReport>, StoreError> {
        match newest_evaluation(self.store, layout).await? {
            Some(key) => self.one(&key).await,
            None => Ok(None),
        }
    }

    async fn one<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, StoreError> {
        let value = self.values(vec![key.to_owned()]).await?.pop();
        Ok(value)
    }

    /// The values of the JSON objects of a folder, in the order of their keys.
    async fn all<T: DeserializeOwned>(&mut self, folder: &str) -> Result<Vec<T>, StoreError> {
        let keys = self.store.list(folder).await?;
        self.values(keys).await
    }

    /// The values of JSON objects. One that vanishes meanwhile is left out; one that cannot be read is noted.
    async fn values<T: DeserializeOwned>(
        &mut self,
        keys: Vec<String>,
    ) -> Result<Vec<T>, StoreError> {
        let store = self.store;
        let keys = keys.into_iter().filter(|key| key.ends_with(".json"));
        let reads = stream::iter(keys).map(|key| async move {
            match store.read_json::<T>(&key).await {
                Err(error) if error.is_of_content() => Ok(Err(error.to_string())),
                read => read.map(Ok),
            }
        });
        let read: Vec<Result<Option<T>, String>> = reads.buffered(AT_ONCE).try_collect().await?;
        let mut values = Vec::with_capacity(read.len());
        for value in read {
            match value {
                Ok(value) => values.extend(value),
                Err(reason) => self.unreadable.push(reason),
            }
        }
        Ok(values)
    }
}

/// The newest term that has an object in a folder.
async fn newest_term(store: &Store, folder: &str) -> Result<Option<Term>, StoreError> {
    let newest = store.newest(folder).await?;
    let name = newest
        .as_ref()
        .and_then(|key| key.rsplit('/').next()?.strip_suffix(".json"));
    Ok(name.and_then(|name| name.parse().ok()).map(Term))
}
