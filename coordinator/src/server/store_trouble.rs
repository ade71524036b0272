//! Whether the store works, for people to see: what fails is tried again, which nobody would notice.

use std::sync::{Mutex, MutexGuard, PoisonError};

use quartet_shared::label::shortened;
use quartet_status::snapshot::StoreTrouble;
use tokio::time::Instant;

/// Characters of a failure that people see.
const LONGEST_REASON: usize = 300;

/// The failures of the store since it last worked.
#[derive(Default)]
pub(super) struct Trouble(Mutex<Option<Failures>>);

struct Failures {
    first: Instant,
    last: String,
}

impl Trouble {
    /// The store has failed.
    pub(super) fn begin(&self, reason: &str) {
        let last = shortened(reason, LONGEST_REASON);
        let mut failures = self.lock();
        let first = failures
            .as_ref()
            .map_or_else(Instant::now, |failures| failures.first);
        *failures = Some(Failures { first, last });
    }

    /// The store works; whether it had failed before.
    pub(super) fn end(&self) -> bool {
        self.lock().take().is_some()
    }

    /// What people see of it.
    pub(super) fn now(&self) -> Option<StoreTrouble> {
        self.lock().as_ref().map(|failures| StoreTrouble {
            since: failures.first.elapsed(),
            reason: failures.last.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Failures>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
