//! Retention: keeps the best and the latest checkpoint of a run, and the latest mid-epoch checkpoint;
//! deletes the rest.

use quartet_shared::blob::BlobRef;
use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::position::Position;
use quartet_store::manifest::{Manifest, StepManifest};

use crate::experiment::Experiment;
use quartet_store::StoreError;

/// Deletes the run's blobs up to `latest`, just committed, that none of the manifests to be kept names.
/// Manifests of epochs stay: they are the record of the training.
pub(super) async fn prune(experiment: Experiment, run: RunName, latest: Position) {
    if let Err(error) = try_prune(&experiment, &run, latest).await {
        tracing::warn!(%run, %error, "could not delete old checkpoints; the next commit tries again");
    }
}

async fn try_prune(
    experiment: &Experiment,
    run: &RunName,
    latest: Position,
) -> Result<(), StoreError> {
    let Experiment { store, layout, .. } = experiment;
    let mut keep = Vec::new();
    let mut keep_all = |objects: [BlobRef; 2]| keep.extend(objects.map(|object| object.key));
    if latest.epoch > Epoch(0) {
        let Some(last) = manifest(experiment, run, latest.epoch).await? else {
            return Ok(());
        };
        let best = last.early_stopping.best_epoch;
        let Some(best) = manifest(experiment, run, best).await? else {
            return Ok(());
        };
        keep_all([last.weights, last.training_state]);
        keep_all([best.weights, best.training_state]);
    }
    let mid_epoch = layout.step_manifest(run, latest);
    if latest.step > 0 {
        let Some(kept) = store.read_json::<StepManifest>(&mid_epoch).await? else {
            return Ok(());
        };
        keep_all([kept.weights, kept.training_state]);
    }
    // Manifests before the blobs that they name.
    for key in store.list(&layout.step_manifests(run)).await? {
        if key < mid_epoch {
            store.delete(&key).await?;
        }
    }
    // Later blobs belong to a commit in progress.
    let is_old = |key: &str| {
        let blob = layout.parse_blob(run, key);
        blob.is_some_and(|(position, _)| position <= latest)
    };
    let folder = layout.checkpoints(run);
    for key in store.list(&folder).await? {
        if is_old(&key) && !keep.contains(&key) {
            store.delete(&key).await?;
        }
    }
    // Uploads that a coordinator did not finish before it was killed.
    for leftover in store.leftovers(&folder).await? {
        if is_old(&leftover.key) {
            store.delete_leftover(&leftover).await?;
        }
    }
    Ok(())
}

async fn manifest(
    experiment: &Experiment,
    run: &RunName,
    epoch: Epoch,
) -> Result<Option<Manifest>, StoreError> {
    let key = experiment.layout.manifest(run, epoch);
    experiment.store.read_json(&key).await
}
