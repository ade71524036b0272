//! Grants: a lease is recorded in the store before its worker hears of it. So no coordinator grants the
//! same attempt twice, and the next coordinator knows which worker holds which lease.

use std::sync::Arc;

use quartet_proto::v1::coordinator_message::Message;
use quartet_shared::assignment::Assignment;
use quartet_shared::clock;
use quartet_shared::human;
use quartet_shared::ids::Term;
use quartet_shared::position::Position;
use quartet_shared::provenance::Provenance;
use quartet_store::manifest::AttemptRecord;
use tonic::Status;

use super::catch_up::catch_up;
use super::rollback::roll_back;
use crate::scheduler::Grant;
use crate::server::assignment::{self, AssignmentError, MissingObject};
use crate::server::shell::Shell;
use crate::server::store_trouble::Proof;
use quartet_store::Creation;

const FIRST_TERM: Term = Term(1);

/// Records the lease, then tells its worker.
pub(in crate::server) async fn grant(shell: Arc<Shell>, mut grant: Grant) {
    let prepared = prepare(&shell, &mut grant).await;
    let Grant { lease, resume } = grant;
    let granted = shell
        .scheduler
        .tell(|scheduler, now| scheduler.end_grant(&lease, prepared.is_some(), now));
    let prepared = match (granted, prepared) {
        (Ok(()), Some((provenance, prepared))) => {
            let (task, attempt) = (lease.task.clone(), lease.attempt);
            shell.history.recorded(task, attempt, provenance);
            prepared
        }
        // Its worker went away, or the record could not be written; either has been logged.
        (granted, _) => return tracing::debug!(%lease, ?granted, "lease not granted"),
    };
    let assignment = match prepared {
        Ok(assignment) => assignment,
        Err(missing) => {
            // The worker has not heard of it.
            let reason = missing.to_string();
            let _ = roll_back(shell, lease, missing.key, reason).await;
            return;
        }
    };
    tracing::info!(
        task = %lease.task,
        attempt = %lease.attempt,
        worker = %lease.worker,
        resume = (resume > Position::default()).then(|| tracing::field::display(resume)),
        after = %human::duration(shell.scheduler.uptime()),
        "task assigned"
    );
    let message = Message::Assignment(assignment.into());
    shell.connections.send(&lease.worker, message);
}

/// Records a lease and reads what its worker needs. `None`, after a line in the log, if the store fails or
/// another coordinator has granted the lease.
async fn prepare(
    shell: &Shell,
    grant: &mut Grant,
) -> Option<(Provenance, Result<Assignment, MissingObject>)> {
    // It has been logged.
    newest(shell, grant).await.ok()?;
    let read = assignment::read(shell, grant);
    let (recorded, assignment) = tokio::join!(record(shell, grant), read);
    let provenance = recorded?;
    match assignment {
        Ok(assignment) => Some((provenance, Ok(assignment))),
        Err(AssignmentError::Store(error)) => {
            shell.store_failed(error);
            None
        }
        Err(AssignmentError::Missing(missing)) => {
            // Nothing is there if the store itself is gone; that is no failure of the run.
            shell.verify_leadership().await.ok()?;
            Some((provenance, Err(missing)))
        }
    }
}

/// Moves the grant to where its run is in the store now, if an older coordinator may have written
/// there.
async fn newest(shell: &Shell, Grant { lease, resume }: &mut Grant) -> Result<(), Status> {
    if shell.experiment.term > FIRST_TERM
        && let Some(position) = catch_up(shell, lease).await?
    {
        *resume = position;
    }
    Ok(())
}

/// Records the lease. What it says of the worker's program and machine; `None` if the store does not have the
/// record, or another coordinator wrote it.
async fn record(shell: &Shell, grant: &Grant) -> Option<Provenance> {
    let Grant { lease, resume } = grant;
    let experiment = &shell.experiment;
    let info = shell.scheduler.read(|scheduler, _| {
        let mut workers = scheduler.workers();
        let worker = workers.find(|worker| worker.info.id == lease.worker)?;
        Some(worker.info.clone())
    });
    let (name, secret, provenance) = match info {
        Some(info) => (info.name, Some(info.secret), info.provenance),
        // It is gone, and the grant comes to nothing.
        None => Default::default(),
    };
    let record = AttemptRecord {
        attempt: lease.attempt,
        worker: lease.worker.clone(),
        name,
        secret,
        term: experiment.term,
        revision: experiment.spec.revision(),
        resume: *resume,
        granted_at: clock::unix_seconds(),
        provenance,
    };
    let key = experiment.layout.attempt(&lease.task, lease.attempt);
    let written = async {
        match experiment.store.create_json(&key, &record).await? {
            Creation::Created => Ok(true),
            // A first try may have been written although it was reported as failed.
            Creation::Exists => {
                Ok(experiment.store.read_json(&key).await?.as_ref() == Some(&record))
            }
        }
    };
    match written.await {
        Ok(true) => {
            shell.store_works(Proof::Write);
            Some(record.provenance)
        }
        Ok(false) => {
            tracing::warn!(%lease, "another coordinator has granted this attempt");
            let _ = shell.verify_leadership().await;
            None
        }
        Err(error) => {
            shell.store_failed(error);
            None
        }
    }
}
