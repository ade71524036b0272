//! A checkpoint that does not have the size and checksum of its manifest: the run goes back to the newest one that has.

use std::sync::Arc;

use quartet_shared::checkpoint::{BlobRef, Manifest, StepManifest};
use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::task::LeaseId;
use tonic::Status;

use super::refusal::refused;
use super::shell::Shell;
use crate::experiment::{Experiment, read_position};
use crate::scheduler::{Found, RewindTicket};
use crate::store::{Store, StoreError};

/// A rewind in progress. Dropped, it gives up, so that no way out leaves the lease pinned.
struct InProgress {
    shell: Arc<Shell>,
    ticket: Option<RewindTicket>,
    reason: String,
}

impl InProgress {
    fn end(&mut self, rewound: Option<(RunName, Found)>) {
        if let Some(ticket) = self.ticket.take() {
            let reason = self.reason.clone();
            self.shell
                .tell(|scheduler, now| scheduler.end_rewind(ticket, rewound, reason, now));
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// Looks at the object that a worker found to be corrupt. If the store's bytes are not those of the manifest, the
/// run that it belongs to goes back to its newest sound checkpoint; else it is the worker's failure.
pub(super) async fn rewind(
    shell: Arc<Shell>,
    lease: LeaseId,
    object: String,
    reason: String,
) -> Result<(), Status> {
    let ticket = shell
        .tell(|scheduler, now| scheduler.begin_rewind(&lease, now))
        .map_err(refused)?;
    let mut in_progress = InProgress {
        shell: Arc::clone(&shell),
        ticket: Some(ticket),
        reason,
    };
    let experiment = &shell.experiment;
    let mut runs = experiment.spec.experiment.runs.iter();
    let Some(run) = runs.find(|run| {
        let layout = &experiment.layout;
        layout.parse_blob(&run.name, &object).is_some()
    }) else {
        tracing::error!(%lease, object, "a worker finds an object corrupt that is no checkpoint");
        in_progress.end(None);
        return Ok(());
    };
    shell.check_rule().await?;
    let found = go_back(experiment, &run.name).await;
    match found.map_err(|error| shell.store_failed(error))? {
        Some(discarded) => {
            let found = read_position(experiment, &run.name)
                .await
                .map_err(|error| Status::unavailable(format!("{error:#}")))?;
            tracing::error!(run = %run.name, object, discarded, "a checkpoint is corrupt; the run goes back");
            in_progress.reason = format!("{object} is corrupt in the store");
            in_progress.end(Some((run.name.clone(), found)));
        }
        None => {
            tracing::error!(%lease, object, "a worker finds a checkpoint corrupt that is sound in the store");
            in_progress.end(None);
        }
    }
    Ok(())
}

/// Takes the manifests out of use whose blobs should be kept and are not sound, and all that follow them; how many, or
/// `None` when all are sound. The newest goes first, so that what is left is always a whole history.
async fn go_back(experiment: &Experiment, run: &RunName) -> Result<Option<usize>, StoreError> {
    let Experiment { store, layout, .. } = experiment;
    let mut discarded = 0;
    let mut steps = store.list(&layout.step_manifests(run)).await?;
    while let Some(key) = steps.pop() {
        let manifest: Option<StepManifest> = store.read_json(&key).await?;
        let Some(manifest) = manifest else { continue };
        if are_sound(store, [&manifest.weights, &manifest.training_state]).await? {
            break;
        }
        discard(experiment, run, &key).await?;
        discarded += 1;
    }
    // The latest epoch has to be sound to go on from, the best one to end with.
    let mut epochs = store.list(&layout.manifests(run)).await?;
    while let Some(key) = epochs.last() {
        let latest: Option<Manifest> = store.read_json(key).await?;
        let Some(latest) = latest else { break };
        let best = latest.early_stopping.best_epoch;
        let resumable = are_sound(store, [&latest.weights, &latest.training_state]).await?;
        let target = if resumable {
            match is_best_sound(experiment, run, best).await? {
                true => break,
                // Everything since the best epoch was trained is to be done again, and it, too.
                false => Epoch(best.0.saturating_sub(1)),
            }
        } else {
            Epoch(latest.epoch.0 - 1)
        };
        for key in store.list(&layout.step_manifests(run)).await? {
            discard(experiment, run, &key).await?;
            discarded += 1;
        }
        while let Some(key) = epochs.pop_if(|key| *key > layout.manifest(run, target)) {
            discard(experiment, run, &key).await?;
            discarded += 1;
        }
    }
    if discarded > 0 {
        discard(experiment, run, &layout.outcome(run)).await?;
    }
    Ok((discarded > 0).then_some(discarded))
}

async fn is_best_sound(
    experiment: &Experiment,
    run: &RunName,
    best: Epoch,
) -> Result<bool, StoreError> {
    let key = experiment.layout.manifest(run, best);
    match experiment.store.read_json::<Manifest>(&key).await? {
        Some(best) => are_sound(&experiment.store, [&best.weights]).await,
        None => Ok(false),
    }
}

/// Whether the objects' bytes are those that the manifest names.
async fn are_sound<const N: usize>(
    store: &Store,
    objects: [&BlobRef; N],
) -> Result<bool, StoreError> {
    for object in objects {
        if store.checksum(&object.key).await? != Some(object.blob) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Moves an object, if it is there, to the folder of what is out of use.
async fn discard(experiment: &Experiment, run: &RunName, key: &str) -> Result<(), StoreError> {
    let Experiment {
        store,
        layout,
        term,
        ..
    } = experiment;
    let Some(value) = store.read_json::<serde_json::Value>(key).await? else {
        return Ok(());
    };
    let name = key.rsplit('/').next().unwrap_or(key);
    let copy = format!("{}/{:06}/{name}", layout.discarded(run), term.0);
    store.create_json(&copy, &value).await?;
    store.delete(key).await
}
