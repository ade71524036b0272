//! Commits a checkpoint: blobs first, verified, then the manifest, which is what makes it exist.

mod manifest;
mod receive;

use std::sync::Arc;

use quartet_proto::v1::{self, commit_checkpoint_request::Part};
use quartet_shared::human;
use tonic::{Status, Streaming};

use super::catch_up::catch_up;
use super::refusal::refused;
use super::retention;
use super::shell::Shell;
use crate::scheduler::{CommitEnd, CommitTicket, Refusal};
use manifest::AnyManifest;
use quartet_store::Creation;

/// A commit in progress. Dropped, it gives up, so that no way out leaves the lease pinned.
struct InProgress {
    shell: Arc<Shell>,
    ticket: Option<CommitTicket>,
}

impl InProgress {
    fn end(&mut self, end: CommitEnd) {
        if let Some(ticket) = self.ticket.take() {
            self.shell
                .tell(|scheduler, now| scheduler.end_commit(ticket, end, now));
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.end(CommitEnd::GivenUp);
    }
}

/// Takes the upload of one checkpoint and commits it.
pub(super) async fn commit(
    shell: Arc<Shell>,
    mut parts: Streaming<v1::CommitCheckpointRequest>,
) -> Result<(), Status> {
    let Some(v1::CommitCheckpointRequest {
        part: Some(Part::Header(header)),
    }) = parts.message().await?
    else {
        return Err(Status::invalid_argument(
            "the first message must be a header",
        ));
    };
    let manifest = AnyManifest::from_header(&shell.experiment.layout, header)?;
    let (lease, position) = (manifest.lease(), manifest.position());
    let begin = || shell.tell(|scheduler, now| scheduler.begin_commit(&lease, position, now));
    let mut begun = begin();
    if matches!(begun, Err(Refusal::OutOfOrder { .. })) && catch_up(&shell, &lease).await?.is_some()
    {
        begun = begin();
    }
    let ticket = match begun {
        Ok(ticket) => ticket,
        // The worker may ask again because the answer was lost on the way.
        Err(Refusal::AlreadyCommitted { .. }) if manifest.is_stored(&shell).await? => {
            return Ok(());
        }
        Err(refusal) => {
            tracing::warn!(%lease, %position, %refusal, "checkpoint refused");
            return Err(refused(refusal));
        }
    };
    let mut in_progress = InProgress {
        shell: Arc::clone(&shell),
        ticket: Some(ticket),
    };

    receive::blobs(&shell, manifest.blobs(), &mut parts).await?;
    shell.check_rule().await?;
    if manifest.create(&shell).await? == Creation::Exists && !manifest.is_stored(&shell).await? {
        return Err(superseded(&shell, &mut in_progress, &manifest).await);
    }
    in_progress.end(manifest.end());
    let blobs = manifest.blobs();
    tracing::info!(
        run = %manifest.run(),
        attempt = %lease.attempt,
        %position,
        valid_accuracy = manifest.metrics().map(|m| human::percentage(m.valid_accuracy)),
        size = %human::size(blobs.iter().map(|object| object.blob.size).sum()),
        "checkpoint committed"
    );
    let run = manifest.run().clone();
    tokio::spawn(retention::prune(shell.experiment.clone(), run, position));
    Ok(())
}

/// An older coordinator wrote this manifest after this one had read the store: the run goes on from what is there.
async fn superseded(shell: &Shell, in_progress: &mut InProgress, manifest: &AnyManifest) -> Status {
    let position = manifest.position();
    let found = match shell.position(manifest.run()).await {
        Ok(found) => found,
        Err(status) => return status,
    };
    if let Some(ticket) = in_progress.ticket.take() {
        shell.tell(|scheduler, now| scheduler.supersede(ticket, found, now));
    }
    tracing::warn!(run = %manifest.run(), %position, "the store has this checkpoint from another attempt; the run goes on from there");
    Status::failed_precondition(format!("{position} is committed by another attempt"))
}
