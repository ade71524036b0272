//! Commits: the blobs of a checkpoint are written and verified, then its manifest makes it exist.

mod manifest;

use std::sync::Arc;

use quartet_proto::v1::{self, commit_checkpoint_request::Part};
use quartet_shared::human;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::Transaction;
use super::catch_up::catch_up;
use super::receive::Receiver;
use super::sender::Sender;
use crate::scheduler::{CommitEnd, CommitTicket, Refusal};
use crate::server::refusal::refused;
use crate::server::registry::Registry;
use crate::server::retention;
use crate::server::shell::Shell;
use crate::server::store_trouble::Proof;
use manifest::AnyManifest;
use quartet_store::Creation;

/// Takes the upload of one checkpoint and commits it.
pub(in crate::server) async fn commit(
    registry: Arc<Registry>,
    parts: Streaming<v1::CommitCheckpointRequest>,
) -> Result<(), Status> {
    let mut parts = Sender::new(parts);
    let Some(v1::CommitCheckpointRequest {
        part: Some(Part::Header(header)),
    }) = parts.next().await?
    else {
        return Err(Status::invalid_argument(
            "the first message must be a header",
        ));
    };
    let shell = registry.of_lease(header.lease.as_ref())?;
    let began = Instant::now();
    let secret = header.secret.clone();
    let (lease, mut manifest) = AnyManifest::from_header(&shell.experiment, header)?;
    shell.verify_secret(&lease.worker, &secret)?;
    // The scheduler refuses a run that there is not.
    if let Some(run) = shell.experiment.spec.experiment.run(manifest.run()) {
        manifest.check_sizes(run)?;
    }
    let position = manifest.position();
    let begin = || {
        let scheduler = &shell.scheduler;
        scheduler.tell(|scheduler, now| scheduler.begin_commit(&lease, position, now))
    };
    let mut begun = begin();
    if matches!(begun, Err(Refusal::OutOfOrder { .. })) && catch_up(&shell, &lease).await?.is_some()
    {
        begun = begin();
    }
    let ticket = match begun {
        Ok(ticket) => ticket,
        // The worker asks again if the answer was lost.
        Err(Refusal::AlreadyCommitted { .. }) if manifest.is_stored(&shell).await? => {
            return Ok(());
        }
        Err(refusal) => {
            tracing::warn!(%lease, %position, %refusal, "checkpoint refused");
            return Err(refused(refusal));
        }
    };
    let transaction = Transaction::new(&shell, ticket, |scheduler, ticket, now| {
        scheduler.end_commit(ticket, CommitEnd::GivenUp, now);
    });

    let last_epoch = shell.scheduler.read(|scheduler, _| {
        let run = scheduler.run(manifest.run());
        run.and_then(|run| run.committed().last_epoch)
    });
    manifest.check_early_stopping(last_epoch.map(|epoch| epoch.early_stopping))?;
    let blobs = manifest.blobs();
    let size = blobs.iter().map(|object| object.blob.size).sum();
    parts.expect(size);
    let progress = |bytes| {
        let scheduler = &shell.scheduler;
        scheduler.note(|scheduler, now| scheduler.report_upload(&lease, position, bytes, now));
    };
    let failed = |error| shell.store_failed(error);
    Receiver::new(&shell.experiment.store, &failed, &mut parts, progress)
        .blobs(blobs)
        .await?;
    shell.verify_leadership().await?;
    if manifest.create(&shell).await? == Creation::Exists && !manifest.is_stored(&shell).await? {
        return Err(superseded(&shell, transaction, &manifest).await);
    }
    shell.store_works(Proof::Write);
    let end = manifest.end();
    shell.history.counters.committed(size, began.elapsed());
    if let Some((run, epoch)) = manifest.epoch_summary() {
        shell.history.committed(run, epoch);
    }
    transaction.end(|scheduler, ticket, now| scheduler.end_commit(ticket, end, now));
    tracing::info!(
        run = %manifest.run(),
        attempt = %lease.attempt,
        %position,
        valid_accuracy = manifest.metrics().map(|m| human::percentage(m.valid_accuracy)),
        size = %human::size(size),
        "checkpoint committed"
    );
    let commit = retention::Commit {
        run: manifest.run().clone(),
        attempt: lease.attempt,
        position,
    };
    tokio::spawn(retention::prune(shell.experiment.clone(), commit));
    Ok(())
}

/// An older coordinator wrote this manifest after this one had read the store: the run goes on from what
/// is there.
async fn superseded(
    shell: &Shell,
    transaction: Transaction<CommitTicket>,
    manifest: &AnyManifest,
) -> Status {
    let position = manifest.position();
    let stored = match shell.read_committed(manifest.run()).await {
        Ok(stored) => stored,
        Err(status) => return status,
    };
    shell.history.reread(manifest.run());
    transaction.end(|scheduler, ticket, now| scheduler.supersede(ticket, stored, now));
    tracing::warn!(
        run = %manifest.run(),
        %position,
        "the store has this checkpoint from another attempt; the run goes on from there"
    );
    Status::failed_precondition(format!("{position} is committed by another attempt"))
}
