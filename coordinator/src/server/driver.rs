//! The driver: carries the scheduler's decisions out.

use std::sync::Arc;
use std::time::Duration;

use quartet_shared::human;
use tokio::time::Instant;

use super::shell::Shell;
use super::transaction;
use crate::scheduler::Now;

/// A step looks at every worker. With thousands of them it takes so long that the next one has to wait:
/// heartbeats need the same lock.
const LONG_STEP: Duration = Duration::from_millis(1);

/// Carries the scheduler's decisions out until the experiment has ended, or this coordinator cannot go
/// on.
pub(super) async fn drive(shell: &Arc<Shell>) {
    loop {
        let started = Instant::now();
        let (ended, deadline) = step(shell);
        let took = started.elapsed();
        if ended {
            return shell.conclusion.set_ended();
        }
        if shell.conclusion.has_error() {
            return;
        }
        if took >= LONG_STEP {
            tokio::time::sleep(took * 4).await;
        }
        shell.scheduler.woken(deadline).await;
    }
}

/// One round of decisions. Returns whether the experiment has ended, and when to look again.
fn step(shell: &Arc<Shell>) -> (bool, Option<Now>) {
    let (expired, stalls, grants, ended, deadline) = shell.scheduler.with(|scheduler, now| {
        let expired = scheduler.expire_leases(now);
        let stalls = scheduler.report_stalls(now);
        let grants = match shell.connections.is_stopping() {
            true => Vec::new(),
            false => scheduler.assign_but(now, shell.reserved()),
        };
        let ended = scheduler.experiment_state().has_ended();
        let deadline = scheduler.next_deadline(now);
        (expired, stalls, grants, ended, deadline)
    });
    for expired in &expired {
        tracing::warn!(lease = %expired.lease, reason = %expired.reason, "lease ended");
        let reason = expired.reason.to_string();
        shell.connections.revoke(&expired.lease, &reason);
    }
    for (lease, stalled) in &stalls {
        let stalled = human::duration(*stalled);
        tracing::warn!(%lease, %stalled, "no progress although the worker is heard of");
    }
    if !(expired.is_empty() && stalls.is_empty() && grants.is_empty()) || ended {
        shell.scheduler.mark_changed();
    }
    for grant in grants {
        tokio::spawn(transaction::grant(Arc::clone(shell), grant));
    }
    (ended, deadline)
}
