//! Work that keeps a thread busy: files, checksums, encodings.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinError;

/// Runs `work` on a thread of its own. On a runtime of one thread, as a simulation in virtual time has it,
/// `work` runs at once on that thread: otherwise the order of events would vary, and the simulation could not
/// be replayed.
///
/// # Errors
/// `work` panicked on the other thread.
pub async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => Ok(work()),
        _ => tokio::task::spawn_blocking(work).await,
    }
}
