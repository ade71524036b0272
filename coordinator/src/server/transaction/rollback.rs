//! Rollbacks: a checkpoint does not have the size and checksum of its manifest, or its manifest is gone, and
//! its run goes back to the newest sound one.

use std::sync::Arc;
use std::time::Duration;

use quartet_shared::blob::BlobRef;
use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::spec::RunSpec;
use quartet_shared::task::{LeaseId, Task};
use quartet_store::manifest::{Manifest, StepManifest};
use tonic::Status;

use super::Transaction;
use crate::experiment::{Bin, Experiment};
use crate::scheduler::{Committed, Run, Scheduler};
use crate::server::refusal::refused;
use crate::server::shell::Shell;
use quartet_store::{Store, StoreError};

/// Wait between two tries while the store fails.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks at the run whose object was found to be corrupt or missing. If the store's bytes are not those of
/// the manifests, the run is rolled back to its newest sound checkpoint; otherwise the worker has failed.
pub(in crate::server) async fn roll_back(
    shell: Arc<Shell>,
    lease: LeaseId,
    object: String,
    reason: String,
) -> Result<(), Status> {
    let begin =
        |scheduler: &mut Scheduler, now| scheduler.begin_rollback(&lease, reason.clone(), now);
    let ticket = shell.scheduler.tell(begin).map_err(refused)?;
    let transaction = Transaction::new(&shell, ticket, |scheduler, ticket, now| {
        scheduler.end_rollback(ticket, None, now);
    });
    let experiment = &shell.experiment;
    let mut runs = experiment.spec.experiment.runs.iter();
    let run = runs.find(|run| experiment.layout.is_of_run(&run.name, &object));
    // The evaluation reads the checkpoints of all runs that have finished.
    let is_finished = |run: &RunSpec| {
        let scheduler = &shell.scheduler;
        scheduler.read(|scheduler, _| scheduler.run(&run.name).is_some_and(Run::is_finished))
    };
    let reads = |run: &&RunSpec| match &lease.task {
        Task::Train(own) => *own == run.name,
        Task::Evaluate => is_finished(run),
    };
    let Some(run) = run.filter(reads) else {
        tracing::error!(%lease, object, reason, "an object is corrupt that is no checkpoint of the task");
        return Ok(());
    };
    let run = &run.name;
    let stored = loop {
        match try_roll_back(&shell, run).await {
            Ok(stored) => break stored,
            // The lease stays pinned: a rollback must not stop half way.
            Err(status) => tokio::select! {
                biased;
                () = shell.connections.closed() => return Err(status),
                () = tokio::time::sleep(PAUSE) => {}
            },
        }
    };
    let scheduler = &shell.scheduler;
    let before = scheduler.read(|scheduler, _| scheduler.run(run).map(Run::position));
    let to = stored.position;
    if before == Some(to) {
        tracing::error!(%lease, object, reason, "the checkpoint is sound in the store");
        return Ok(());
    }
    tracing::error!(%run, reason, %to, "a checkpoint is corrupt; its run is rolled back");
    let rolled_back = Some((run.clone(), stored));
    transaction.end(|scheduler, ticket, now| scheduler.end_rollback(ticket, rolled_back, now));
    Ok(())
}

/// Returns how far the run is afterwards.
async fn try_roll_back(shell: &Shell, run: &RunName) -> Result<Committed, Status> {
    shell.verify_leadership().await?;
    discard_corrupt(&shell.experiment, run)
        .await
        .map_err(|error| shell.store_failed(error))?;
    shell.read_committed(run).await
}

/// Takes the manifests out of use whose blobs should be kept and are corrupt, and all that follow them.
/// The outcome goes first and then the newest manifest, so that a complete history is left at any time.
async fn discard_corrupt(experiment: &Experiment, run: &RunName) -> Result<(), StoreError> {
    let Experiment { store, layout, .. } = experiment;
    let mut bin = Bin::new(experiment, run);
    let mut steps = store.list(&layout.step_manifests(run)).await?;
    while let Some(key) = steps.pop() {
        let manifest: Option<StepManifest> = store.read_json(&key).await?;
        let Some(manifest) = manifest else { continue };
        if are_sound(store, [&manifest.weights, &manifest.training_state]).await? {
            break;
        }
        bin.take(&key).await?;
    }
    // The next attempt resumes from the latest epoch, and the ensemble uses the best one.
    let mut epochs = store.list(&layout.manifests(run)).await?;
    while let Some(key) = epochs.last() {
        let latest: Option<Manifest> = store.read_json(key).await?;
        let Some(latest) = latest else { break };
        let best = latest.early_stopping.best_epoch;
        let resumable = are_sound(store, [&latest.weights, &latest.training_state]).await?;
        let target = if resumable {
            match is_best_sound(experiment, run, best).await? {
                true => break,
                // The best epoch is to be trained again, and all that follow it.
                false => Epoch(best.0.saturating_sub(1)),
            }
        } else {
            Epoch(latest.epoch.0 - 1)
        };
        for key in store.list(&layout.step_manifests(run)).await? {
            bin.take(&key).await?;
        }
        while let Some(key) = epochs.pop_if(|key| *key > layout.manifest(run, target)) {
            bin.take(&key).await?;
        }
    }
    Ok(())
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
