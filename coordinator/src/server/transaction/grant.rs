//! Grants: a lease is recorded in the store before its worker hears of it. So no coordinator grants the
//! same attempt twice, and the next coordinator knows which worker holds which lease.

use std::sync::Arc;

use quartet_proto::v1::{self, coordinator_message::Message};
use quartet_shared::clock;
use quartet_shared::human;
use quartet_shared::ids::Term;
use quartet_shared::position::Position;
use quartet_store::manifest::AttemptRecord;
use tonic::Status;

use super::catch_up::catch_up;
use crate::scheduler::{Assignment, Scheduler};
use crate::server::shell::Shell;
use quartet_store::Creation;

const FIRST_TERM: Term = Term(1);

/// Records the lease, then tells its worker.
pub(in crate::server) async fn grant(shell: Arc<Shell>, mut assignment: Assignment) {
    let recorded = match newest(&shell, &mut assignment).await {
        Ok(()) => record(&shell, &assignment).await,
        // It has been logged.
        Err(_) => false,
    };
    let Assignment { lease, resume } = &assignment;
    let granted = shell
        .scheduler
        .tell(|scheduler, now| scheduler.end_grant(lease, recorded, now));
    if let Err(refusal) = granted {
        // Its worker went away, or the record could not be written; either has been logged.
        return tracing::debug!(%lease, %refusal, "lease not granted");
    }
    tracing::info!(
        task = %lease.task,
        attempt = %lease.attempt,
        worker = %lease.worker,
        resume = (*resume > Position::default()).then(|| tracing::field::display(resume)),
        after = %human::duration(shell.scheduler.uptime()),
        "task assigned"
    );
    let resume = (*resume > Position::default()).then(|| (*resume).into());
    let message = v1::Assignment {
        lease: Some(lease.clone().into()),
        resume,
    };
    let connections = &shell.connections;
    connections.send(&lease.worker, Message::Assignment(message));
}

/// Moves the assignment to where its run is in the store now, if an older coordinator may have written
/// there.
async fn newest(
    shell: &Shell,
    Assignment { lease, resume }: &mut Assignment,
) -> Result<(), Status> {
    if shell.experiment.term > FIRST_TERM
        && let Some(position) = catch_up(shell, lease).await?
    {
        *resume = position;
    }
    Ok(())
}

/// Whether the store has the record, and no other coordinator wrote it.
async fn record(shell: &Shell, assignment: &Assignment) -> bool {
    let Assignment { lease, resume } = assignment;
    let experiment = &shell.experiment;
    let record = AttemptRecord {
        attempt: lease.attempt,
        worker: lease.worker.clone(),
        name: shell
            .scheduler
            .read(|scheduler, _| name(scheduler, assignment)),
        term: experiment.term,
        resume: *resume,
        granted_at: clock::unix_seconds(),
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
        Ok(true) => true,
        Ok(false) => {
            tracing::warn!(%lease, "another coordinator has granted this attempt");
            let _ = shell.verify_leadership().await;
            false
        }
        Err(error) => {
            shell.store_failed(error);
            false
        }
    }
}

fn name(scheduler: &Scheduler, assignment: &Assignment) -> String {
    let mut workers = scheduler.workers();
    let worker = workers.find(|worker| worker.info.id == assignment.lease.worker);
    worker.map_or_else(String::new, |worker| worker.info.name.clone())
}
