//! Retention: keeps the best and the latest checkpoint of a run, and the latest mid-epoch checkpoint;
//! deletes the rest.

use quartet_shared::blob::BlobRef;
use quartet_shared::ids::{Attempt, Epoch, RunName};
use quartet_shared::position::Position;
use quartet_store::manifest::{Manifest, StepManifest};
use quartet_store::{Leftover, StoreError};

use crate::experiment::Experiment;
use crate::leadership::LeadershipError;

/// What an attempt has just committed.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub(super) run: RunName,
    pub(super) attempt: Attempt,
    pub(super) position: Position,
}

/// Deletes the run's blobs up to this commit that none of the manifests to be kept names. Manifests of epochs
/// stay: they are the record of the training.
pub(super) async fn prune(experiment: Experiment, commit: Commit) {
    if let Err(error) = try_prune(&experiment, &commit).await {
        let run = commit.run;
        tracing::warn!(%run, %error, "could not delete old checkpoints; the next commit tries again");
    }
}

async fn try_prune(experiment: &Experiment, commit: &Commit) -> Result<(), LeadershipError> {
    let Some(old) = Old::find(experiment, commit).await? else {
        return Ok(());
    };
    if old.is_empty() {
        return Ok(());
    }
    // A newer coordinator may have gone back, and may need what this one takes for old.
    experiment.verify_leadership().await?;
    Ok(old.delete(experiment).await?)
}

/// What is no longer needed.
#[derive(Debug, Default)]
struct Old {
    manifests: Vec<String>,
    blobs: Vec<String>,
    leftovers: Vec<Leftover>,
}

impl Old {
    /// What the commit has made superfluous. All of that is of its attempt or an earlier one: whatever a
    /// newer attempt writes is not this commit's to delete. `None` if a manifest to be kept is not there.
    async fn find(experiment: &Experiment, commit: &Commit) -> Result<Option<Self>, StoreError> {
        let Experiment { store, layout, .. } = experiment;
        let Commit {
            run,
            attempt,
            position: latest,
        } = commit;
        let Some(keep) = to_be_kept(experiment, run, *latest).await? else {
            return Ok(None);
        };
        let mut old = Self::default();
        let mid_epoch = layout.step_manifest(run, *latest);
        for key in store.list(&layout.step_manifests(run)).await? {
            if key < mid_epoch
                && let Some(manifest) = store.read_json::<StepManifest>(&key).await?
                && manifest.attempt <= *attempt
            {
                old.manifests.push(key);
            }
        }
        // Later blobs belong to a commit in progress.
        let is_old = |key: &str| {
            let blob = layout.parse_blob(run, key);
            blob.is_some_and(|(position, of)| position <= *latest && of <= *attempt)
        };
        let folder = layout.checkpoints(run);
        old.blobs = store.list(&folder).await?;
        old.blobs.retain(|key| is_old(key) && !keep.contains(key));
        // Uploads that a coordinator did not finish before it was killed.
        old.leftovers = store.leftovers(&folder).await?;
        old.leftovers.retain(|leftover| is_old(&leftover.key));
        Ok(Some(old))
    }

    fn is_empty(&self) -> bool {
        self.manifests.is_empty() && self.blobs.is_empty() && self.leftovers.is_empty()
    }

    /// Deletes manifests before the blobs that they name.
    async fn delete(self, Experiment { store, .. }: &Experiment) -> Result<(), StoreError> {
        for key in self.manifests.iter().chain(&self.blobs) {
            store.delete(key).await?;
        }
        for leftover in &self.leftovers {
            store.delete_leftover(leftover).await?;
        }
        Ok(())
    }
}

/// The blobs of the best and the latest epoch and of the latest mid-epoch checkpoint; `None` if a manifest is
/// not there.
async fn to_be_kept(
    experiment: &Experiment,
    run: &RunName,
    latest: Position,
) -> Result<Option<Vec<String>>, StoreError> {
    let Experiment { store, layout, .. } = experiment;
    let mut keep = Vec::new();
    let mut keep_all = |objects: [BlobRef; 2]| keep.extend(objects.map(|object| object.key));
    if latest.epoch > Epoch(0) {
        let Some(last) = manifest(experiment, run, latest.epoch).await? else {
            return Ok(None);
        };
        let best = last.early_stopping.best_epoch;
        let Some(best) = manifest(experiment, run, best).await? else {
            return Ok(None);
        };
        keep_all([last.weights, last.training_state]);
        keep_all([best.weights, best.training_state]);
    }
    if latest.step > 0 {
        let key = layout.step_manifest(run, latest);
        let Some(kept) = store.read_json::<StepManifest>(&key).await? else {
            return Ok(None);
        };
        keep_all([kept.weights, kept.training_state]);
    }
    Ok(Some(keep))
}

async fn manifest(
    experiment: &Experiment,
    run: &RunName,
    epoch: Epoch,
) -> Result<Option<Manifest>, StoreError> {
    let key = experiment.layout.manifest(run, epoch);
    experiment.store.read_json(&key).await
}

#[cfg(test)]
mod tests;
