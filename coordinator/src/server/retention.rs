//! Keeps the best and the latest checkpoint of a run and deletes the rest.

use quartet_shared::checkpoint::{Manifest, Position};

use crate::experiment::Experiment;
use crate::store::StoreError;

/// Deletes the run's blobs that neither `latest`, just committed, nor the best epoch's manifest names. Manifests stay: they are
/// the record of the training.
pub(super) async fn prune(experiment: Experiment, latest: Manifest) {
    if let Err(error) = try_prune(&experiment, &latest).await {
        tracing::warn!(run = %latest.run, %error, "could not delete old checkpoints; the next commit tries again");
    }
}

async fn try_prune(experiment: &Experiment, latest: &Manifest) -> Result<(), StoreError> {
    let Experiment { store, layout, .. } = experiment;
    let best_key = layout.manifest(&latest.run, latest.early_stopping.best_epoch);
    let Some(best) = store.read_json::<Manifest>(&best_key).await? else {
        return Ok(());
    };
    let keep = [
        &latest.weights.key,
        &latest.training_state.key,
        &best.weights.key,
        &best.training_state.key,
    ];
    // Blobs of later epochs belong to a commit in progress.
    let newest = layout.weights(
        &latest.run,
        Position::end_of(latest.epoch.next()),
        Default::default(),
    );
    for key in store.list(&layout.checkpoints(&latest.run)).await? {
        if key < newest && !keep.contains(&&key) {
            store.delete(&key).await?;
        }
    }
    Ok(())
}
