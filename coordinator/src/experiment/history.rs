//! How far the runs are, read from the store when a coordinator starts.

use anyhow::Context;
use quartet_shared::ids::{RunName, Term};
use quartet_shared::outcome::Outcome;
use quartet_shared::task::Task;
use quartet_store::manifest::{AttemptRecord, Manifest, StepManifest};

use super::{Experiment, settle};
use crate::leadership::Closed;
use crate::scheduler::{Committed, CommittedEpoch, History, LastLease, RunHistory};
use quartet_store::Store;

/// Reads the history of every run and of the evaluation.
///
/// # Errors
/// The store fails, or an object in it cannot be read.
pub async fn read(experiment: &Experiment) -> anyhow::Result<History> {
    let Experiment { store, layout, .. } = experiment;
    let closed: Option<Closed> = read_newest(store, &layout.claims().all_closed()).await?;
    let closed = closed.map(|closed| closed.term);
    let mut runs = Vec::new();
    for run in &experiment.spec.experiment.runs {
        runs.push(read_run(experiment, &run.name, closed).await?);
    }
    Ok(History {
        runs,
        evaluation: read_lease(experiment, &Task::Evaluate, closed).await?,
        evaluated: experiment.evaluation().await?.is_some(),
    })
}

async fn read_run(
    experiment: &Experiment,
    run: &RunName,
    closed: Option<Term>,
) -> anyhow::Result<RunHistory> {
    let Experiment { store, layout, .. } = experiment;
    Ok(RunHistory {
        run: run.clone(),
        lease: read_lease(experiment, &Task::Train(run.clone()), closed).await?,
        committed: read_committed(experiment, run).await?,
        outcome: store.read_json::<Outcome>(&layout.outcome(run)).await?,
    })
}

/// How far a run is.
///
/// # Errors
/// The store fails, or a manifest in it cannot be read.
pub(crate) async fn read_committed(
    experiment: &Experiment,
    run: &RunName,
) -> anyhow::Result<Committed> {
    let Experiment { store, layout, .. } = experiment;
    // A coordinator that was replaced may have written another.
    settle::discard_outdated(experiment, run).await?;
    let last: Option<Manifest> = read_newest(store, &layout.manifests(run)).await?;
    let mid_epoch: Option<StepManifest> = read_newest(store, &layout.step_manifests(run)).await?;
    let committed = last.map_or_else(Committed::default, |manifest| {
        Committed::end_of(manifest.epoch, CommittedEpoch::from(&manifest))
    });
    let step = mid_epoch
        .map(|manifest| manifest.position)
        .filter(|position| position.epoch == committed.position.epoch)
        .map_or(0, |position| position.step);
    Ok(committed.with_step(step))
}

/// The newest lease of a task; `closed` is the newest term at whose end no lease was held.
async fn read_lease(
    experiment: &Experiment,
    task: &Task,
    closed: Option<Term>,
) -> anyhow::Result<Option<LastLease>> {
    let folder = experiment.layout.attempts(task);
    let record: Option<AttemptRecord> = read_newest(&experiment.store, &folder).await?;
    Ok(record.map(|record| LastLease {
        attempt: record.attempt,
        worker: record.worker,
        name: record.name,
        secret: record.secret,
        ended: closed >= Some(record.term),
        superseded: record.revision < experiment.spec.changed(task),
    }))
}

/// The newest object of a folder.
async fn read_newest<T: serde::de::DeserializeOwned>(
    store: &Store,
    folder: &str,
) -> anyhow::Result<Option<T>> {
    let Some(key) = store.newest(folder).await? else {
        return Ok(None);
    };
    let value = store.read_json(&key).await?;
    value
        .with_context(|| format!("{key} vanished while it was read"))
        .map(Some)
}
