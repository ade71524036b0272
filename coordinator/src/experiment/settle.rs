//! What follows from a change of an experiment: what no longer holds is put aside.
//!
//! It follows from the newest form and from what the store has, so that it is done again, or to its end, each
//! time that a coordinator starts.

use futures::TryStreamExt;
use quartet_shared::blob::BlobRef;
use quartet_shared::ids::{Revision, RunName};
use quartet_shared::outcome::Outcome;
use quartet_shared::report::EvaluationReport;
use quartet_store::manifest::Manifest;
use quartet_store::{Store, StoreError};
use serde::Deserialize;

use super::{Bin, Experiment, LeadershipError};

/// Puts aside what does not hold in the newest form of the experiment.
///
/// # Errors
/// A newer coordinator has claimed it, or the store fails.
pub(super) async fn settle(experiment: &Experiment) -> Result<(), LeadershipError> {
    if experiment.spec.revised.is_none() {
        return Ok(());
    }
    for run in &experiment.spec.experiment.runs {
        experiment.verify_leadership().await?;
        discard_outdated(experiment, &run.name).await?;
        discard_outcome(experiment, &run.name).await?;
    }
    put_evaluation_aside(experiment).await
}

/// Takes the checkpoints of a run out of use that it had before it began anew.
pub(super) async fn discard_outdated(
    experiment: &Experiment,
    run: &RunName,
) -> Result<(), StoreError> {
    let Experiment {
        store,
        layout,
        spec,
        ..
    } = experiment;
    let begun = spec.begun(run);
    if begun == Revision::FIRST {
        return Ok(());
    }
    let mut bin = Bin::new(experiment, run);
    // The newest first, so that a complete history is left at any time.
    let mut keys = store.list(&layout.manifests(run)).await?;
    keys.extend(store.list(&layout.step_manifests(run)).await?);
    for key in keys.iter().rev() {
        let outdated = match store.read_json::<Checkpoint>(key).await? {
            Some(checkpoint) if checkpoint.revision < begun => checkpoint,
            _ => continue,
        };
        bin.take_outcome().await?;
        store.delete(&outdated.weights.key).await?;
        store.delete(&outdated.training_state.key).await?;
        bin.take(key).await?;
    }
    Ok(())
}

/// What manifests of epochs and of mid-epoch checkpoints have in common.
#[derive(Deserialize)]
struct Checkpoint {
    #[serde(default = "Revision::first")]
    revision: Revision,
    weights: BlobRef,
    training_state: BlobRef,
}

/// Takes the outcome of a run out of use that is to be trained for longer.
pub(crate) async fn discard_outcome(
    experiment: &Experiment,
    run: &RunName,
) -> Result<(), StoreError> {
    let Experiment {
        store,
        layout,
        spec,
        ..
    } = experiment;
    let Some(outcome) = store.read_json::<Outcome>(&layout.outcome(run)).await? else {
        return Ok(());
    };
    let last = match store.newest(&layout.manifests(run)).await? {
        Some(key) => store.read_json::<Manifest>(&key).await?,
        None => None,
    };
    let holds = |last: Manifest| spec.is_outcome_of(outcome, last.epoch, last.early_stopping);
    match last.is_some_and(holds) {
        true => Ok(()),
        false => Bin::new(experiment, run).take_outcome().await,
    }
}

/// Moves the results of the ensemble as it was before to a folder of their own.
///
/// # Errors
/// A newer coordinator has claimed the experiment, or the store fails.
pub(crate) async fn put_evaluation_aside(experiment: &Experiment) -> Result<(), LeadershipError> {
    let Experiment {
        store,
        layout,
        spec,
        ..
    } = experiment;
    if spec.revised.is_none() {
        return Ok(());
    }
    let results = layout.results(None);
    let report: Option<EvaluationReport> = store.read_json(&results.evaluation()).await?;
    match report {
        Some(report) if spec.is_evaluated_by(&report) => return Ok(()),
        Some(report) => {
            let earlier = layout.earlier_results(report.revision).all();
            for (key, copy) in results.all().iter().zip(&earlier) {
                keep(store, key, copy).await?;
            }
        }
        // Without an evaluation, the rest is what a coordinator left that was killed as it wrote them.
        None => {}
    }
    // A newer one may have results of its own by now.
    experiment.verify_leadership().await?;
    // The evaluation is the last: as long as it is there, this is done again.
    for key in results.all() {
        store.delete(&key).await?;
    }
    Ok(())
}

/// Copies an object, if it is there.
async fn keep(store: &Store, key: &str, copy: &str) -> Result<(), StoreError> {
    let Some(blob) = store.checksum(key).await? else {
        return Ok(());
    };
    let mut upload = store.upload(copy);
    let mut pieces = store.read(key).await?;
    while let Some(piece) = pieces.try_next().await? {
        upload.write(piece).await?;
    }
    if let Err(found) = upload.finish(blob).await? {
        tracing::warn!(key, %found, "a result changed while it was put aside; its copy is not kept");
    }
    Ok(())
}
