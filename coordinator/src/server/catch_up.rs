//! What an older coordinator committed after this one had read the store. A worker that was told so goes on from there, and the older
//! one's retention deletes what came before.

use quartet_shared::task::{LeaseId, Task};
use tonic::Status;

use super::shell::Shell;

/// Looks how far the run of a lease is in the store. Whether that is further than was known.
pub(super) async fn catch_up(shell: &Shell, lease: &LeaseId) -> Result<bool, Status> {
    let Task::Train(run) = &lease.task else {
        return Ok(false);
    };
    let found = shell.position(run).await?;
    let moved = shell.tell(|scheduler, _| scheduler.catch_up(lease, found));
    let moved = moved.unwrap_or(false);
    if moved {
        tracing::warn!(%run, position = %found.position(), "an older coordinator committed this late");
    }
    Ok(moved)
}
