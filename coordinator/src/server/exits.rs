//! Workers whose processes have ended, as the parent process knows it: nobody has to wait for them.

use std::sync::Arc;

use quartet_shared::ids::WorkerId;

use super::registry::Registry;

/// Tells a coordinator of its children.
#[derive(Clone)]
pub struct Exits(pub(super) Arc<Registry>);

impl Exits {
    /// The process of a worker has ended, and did not say goodbye: `how`, as in `signal: 9 (SIGKILL)`.
    pub fn exited(&self, worker: &WorkerId, how: &str) {
        let how = format!("it ended with {how}");
        for open in self.0.all() {
            let scheduler = &open.shell.scheduler;
            scheduler.tell(|scheduler, now| scheduler.worker_lost(worker, &how, now));
        }
    }
}
