//! Catching up with what an older coordinator committed after this one had read the store: its worker
//! goes on from there, and its retention deletes what came before.

use quartet_shared::position::Position;
use quartet_shared::task::{LeaseId, Task};
use tonic::Status;

use crate::server::shell::Shell;

/// Reads how far the run of a lease is in the store; its position if that is further than was known.
pub(super) async fn catch_up(shell: &Shell, lease: &LeaseId) -> Result<Option<Position>, Status> {
    let Task::Train(run) = &lease.task else {
        return Ok(None);
    };
    let stored = shell.read_committed(run).await?;
    let position = stored.position;
    let scheduler = &shell.scheduler;
    let moved = scheduler.tell(|scheduler, _| scheduler.catch_up(lease, stored));
    if moved != Ok(true) {
        return Ok(None);
    }
    shell.history.reread(run);
    tracing::warn!(%run, %position, "an older coordinator committed this late");
    Ok(Some(position))
}
