//! What follows from a change of an experiment: what no longer holds is put aside.
//!
//! It follows from the newest form and from what the store has, so that it is done again, or to its end, each
//! time that a coordinator starts.

use futures::TryStreamExt;
use quartet_shared::ids::{Revision, RunName};
use quartet_shared::outcome::Outcome;
use quartet_shared::report::EvaluationReport;
use quartet_store::StoreError;
use quartet_store::manifest::{Manifest, StepManifest};

use super::{Bin, Experiment, LeadershipError};

/// Puts aside what does not hold in the newest form of the experiment.
///
/// # Errors
/// A newer coordinator has claimed it, or the store fails.
pub(super) async fn settle(experiment: &Experiment) -> Result<(), LeadershipError> {
    if experiment.spec.revised.is_none() {
        return Ok(());
    }
    experiment.verify_leadership().await?;
    for run in &experiment.spec.experiment.runs {
        discard_outdated(experiment, &run.name).await?;
        discard_outcome(experiment, &run.name).await?;
    }
    Ok(put_evaluation_aside(experiment).await?)
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
    for key in store.list(&layout.step_manifests(run)).await?.iter().rev() {
        let manifest: Option<StepManifest> = store.read_json(key).await?;
        if let Some(StepManifest {
            weights,
            training_state,
            ..
        }) = manifest.filter(|manifest| manifest.revision < begun)
        {
            bin.take_outcome().await?;
            store.delete(&weights.key).await?;
            store.delete(&training_state.key).await?;
            bin.take(key).await?;
        }
    }
    // The newest first, so that a complete history is left at any time.
    for key in store.list(&layout.manifests(run)).await?.iter().rev() {
        let manifest: Option<Manifest> = store.read_json(key).await?;
        if let Some(Manifest {
            weights,
            training_state,
            ..
        }) = manifest.filter(|manifest| manifest.revision < begun)
        {
            bin.take_outcome().await?;
            store.delete(&weights.key).await?;
            store.delete(&training_state.key).await?;
            bin.take(key).await?;
        }
    }
    Ok(())
}

/// Takes the outcome of a run out of use that is to be trained for longer.
async fn discard_outcome(experiment: &Experiment, run: &RunName) -> Result<(), StoreError> {
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
async fn put_evaluation_aside(experiment: &Experiment) -> Result<(), StoreError> {
    let Experiment {
        store,
        layout,
        spec,
        ..
    } = experiment;
    let results = layout.results(None);
    let Some(report) = store
        .read_json::<EvaluationReport>(&results.evaluation())
        .await?
    else {
        return Ok(());
    };
    if spec.is_evaluated_by(&report) {
        return Ok(());
    }
    let earlier = layout.earlier_results(report.revision).all();
    for (key, copy) in results.all().iter().zip(&earlier) {
        if let Some(blob) = store.checksum(key).await? {
            let mut upload = store.upload(copy);
            let mut pieces = store.read(key).await?;
            while let Some(piece) = pieces.try_next().await? {
                upload.write(piece).await?;
            }
            if upload.finish(blob).await?.is_err() {
                // Someone changes it: the next start tries again.
                tracing::warn!(key, "a result changed while it was put aside");
                return Ok(());
            }
        }
    }
    // The evaluation is the last: as long as it is there, this is done again.
    for key in results.all() {
        store.delete(&key).await?;
    }
    Ok(())
}
