//! A checkpoint that does not have the size and checksum of its manifest: the run goes back to the newest one that has.

use std::sync::Arc;
use std::time::Duration;

use quartet_shared::blob::BlobRef;
use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::task::LeaseId;
use quartet_store::manifest::{Manifest, StepManifest};
use tonic::Status;

use super::refusal::refused;
use super::shell::Shell;
use crate::experiment::Experiment;
use crate::scheduler::{Found, RewindTicket, Run};
use quartet_store::{Store, StoreError};

/// Between two tries while the store fails.
const PAUSE: Duration = Duration::from_secs(1);

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
    let found = loop {
        match try_go_back(&shell, &run.name).await {
            Ok(found) => break found,
            // The lease stays pinned: half the way back is none.
            Err(status) => tokio::select! {
                biased;
                () = shell.closed() => return Err(status),
                () = tokio::time::sleep(PAUSE) => {}
            },
        }
    };
    let before = shell.read(|scheduler, _| scheduler.run(&run.name).map(Run::position));
    if before == Some(found.position()) {
        tracing::error!(%lease, object, "a worker finds a checkpoint corrupt that is sound in the store");
        in_progress.end(None);
    } else {
        tracing::error!(run = %run.name, reason = in_progress.reason, to = %found.position(), "a checkpoint is not sound; the run goes back");
        in_progress.end(Some((run.name.clone(), found)));
    }
    Ok(())
}

/// Where the run is afterwards.
async fn try_go_back(shell: &Shell, run: &RunName) -> Result<Found, Status> {
    shell.check_rule().await?;
    let experiment = &shell.experiment;
    let gone_back = go_back(experiment, run).await;
    gone_back.map_err(|error| shell.store_failed(error))?;
    shell.position(run).await
}

/// Takes the manifests out of use whose blobs should be kept and are not sound, and all that follow them. The outcome goes
/// first and then the newest manifest, so that what is left is always a whole history.
async fn go_back(experiment: &Experiment, run: &RunName) -> Result<(), StoreError> {
    let Experiment { store, layout, .. } = experiment;
    let mut bin = Bin {
        experiment,
        run,
        empty: true,
    };
    let mut steps = store.list(&layout.step_manifests(run)).await?;
    while let Some(key) = steps.pop() {
        let manifest: Option<StepManifest> = store.read_json(&key).await?;
        let Some(manifest) = manifest else { continue };
        if are_sound(store, [&manifest.weights, &manifest.training_state]).await? {
            break;
        }
        bin.take(&key).await?;
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

/// Where the manifests go that are out of use.
struct Bin<'a> {
    experiment: &'a Experiment,
    run: &'a RunName,
    empty: bool,
}

impl Bin<'_> {
    /// Takes a manifest. Before the first one it takes the outcome: a run that has one counts as finished, whatever else is there.
    async fn take(&mut self, key: &str) -> Result<(), StoreError> {
        if self.empty {
            self.discard(&self.experiment.layout.outcome(self.run))
                .await?;
            self.empty = false;
        }
        self.discard(key).await
    }

    /// Moves an object, if it is there, to the folder of what is out of use.
    async fn discard(&self, key: &str) -> Result<(), StoreError> {
        let Experiment {
            store,
            layout,
            term,
            ..
        } = self.experiment;
        let Some(value) = store.read_json::<serde_json::Value>(key).await? else {
            return Ok(());
        };
        let name = key.rsplit('/').next().unwrap_or(key);
        let copy = format!("{}/{:06}/{name}", layout.discarded(self.run), term.0);
        store.create_json(&copy, &value).await?;
        store.delete(key).await
    }
}
