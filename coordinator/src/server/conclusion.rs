//! How the coordinator's work concludes: with a report, with a failed experiment, or with an error.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use quartet_shared::report::EvaluationReport;
use tokio_util::sync::CancellationToken;

/// How the coordinator's work concludes.
#[derive(Default)]
pub(super) struct Conclusion {
    /// The ensemble's evaluation.
    report: OnceLock<EvaluationReport>,
    /// Why this coordinator cannot go on.
    error: Mutex<Option<anyhow::Error>>,
    /// Whether the experiment has ended.
    ended: CancellationToken,
}

impl Conclusion {
    /// The ensemble's evaluation, once there is one.
    pub(super) fn report(&self) -> Option<&EvaluationReport> {
        self.report.get()
    }

    pub(super) fn set_report(&self, report: EvaluationReport) {
        // A second one can only be the same: the store keeps the first.
        let _ = self.report.set(report);
    }

    fn error(&self) -> MutexGuard<'_, Option<anyhow::Error>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This coordinator cannot go on. The first reason counts.
    pub(super) fn set_error(&self, reason: anyhow::Error) {
        self.error().get_or_insert(reason);
    }

    /// Whether this coordinator cannot go on.
    pub(super) fn has_error(&self) -> bool {
        self.error().is_some()
    }

    /// Why this coordinator cannot go on.
    pub(super) fn take_error(&self) -> Option<anyhow::Error> {
        self.error().take()
    }

    pub(super) fn set_ended(&self) {
        self.ended.cancel();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Resolves when the experiment has ended.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}
