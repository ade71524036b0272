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
    /// What ends them: that it can be read proves nothing of a store that takes no objects.
    ended_by: Proof,
}

/// What a call of the store has proven to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proof {
    Read,
    Write,
}

impl Trouble {
    /// The store has failed since then, until a call proves otherwise.
    pub(super) fn begin(&self, since: Instant, reason: &str, ended_by: Proof) {
        let last = shortened(reason, LONGEST_REASON);
        let mut failures = self.lock();
        let (first, ended_by) = failures.as_ref().map_or((since, ended_by), |failures| {
            (failures.first, failures.ended_by.max(ended_by))
        });
        *failures = Some(Failures {
            first,
            last,
            ended_by,
        });
    }

    /// A call has worked; whether the store had failed before, and now works.
    pub(super) fn end(&self, proof: Proof) -> bool {
        let proves = |failures: &mut Failures| proof >= failures.ended_by;
        self.lock().take_if(proves).is_some()
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_store_that_takes_no_objects_fails_although_it_can_be_read() {
        let trouble = Trouble::default();
        assert_eq!((trouble.now(), trouble.end(Proof::Write)), (None, false));
        let now = Instant::now();
        trouble.begin(now, "it is silent", Proof::Read);
        trouble.begin(now + Duration::from_secs(5), "it is full", Proof::Write);
        assert!(!trouble.end(Proof::Read));
        assert_eq!(trouble.now().unwrap().reason, "it is full");
        assert!(trouble.end(Proof::Write));
        trouble.begin(now, "it is silent", Proof::Read);
        assert!(trouble.end(Proof::Read));
        assert_eq!(trouble.now(), None);
    }
}
