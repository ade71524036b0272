//! Ends tasks: writes the result to the store, then tells the scheduler.

use std::sync::Arc;

use bytes::Bytes;
use quartet_shared::human;
use quartet_shared::outcome::Outcome;
use quartet_shared::report::{self, EvaluationReport};
use quartet_shared::task::{LeaseId, Task};
use tonic::Status;

use super::catch_up::catch_up;
use super::refusal::{bad, refused};
use super::shell::Shell;
use crate::scheduler::{CompleteTicket, Completion, Refusal};

/// A completion in progress. Dropped, it gives up, so that no way out leaves the lease pinned.
struct InProgress {
    shell: Arc<Shell>,
    ticket: Option<CompleteTicket>,
}

impl InProgress {
    /// `None` when this lease has completed the task before, and the worker did not hear so.
    async fn begin(shell: &Arc<Shell>, lease: &LeaseId) -> Result<Option<Self>, Status> {
        let begin = || shell.tell(|scheduler, now| scheduler.begin_complete(lease, now));
        let mut begun = begin();
        if matches!(begun, Err(Refusal::Incomplete { .. }))
            && catch_up(shell, lease).await?.is_some()
        {
            begun = begin();
        }
        Ok(begun.map_err(refused)?.map(|ticket| Self {
            shell: Arc::clone(shell),
            ticket: Some(ticket),
        }))
    }

    fn end(&mut self, completion: Option<Completion>) {
        if let Some(ticket) = self.ticket.take() {
            self.shell
                .tell(|scheduler, now| scheduler.end_complete(ticket, completion, now));
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// Writes a run's outcome and finishes the run.
pub(super) async fn run(shell: Arc<Shell>, lease: LeaseId, outcome: Outcome) -> Result<(), Status> {
    let Task::Train(run) = &lease.task else {
        return Err(Status::invalid_argument("only a run has an outcome"));
    };
    let Some(mut in_progress) = InProgress::begin(&shell, &lease).await? else {
        return Ok(());
    };
    shell.check_rule().await?;
    let experiment = &shell.experiment;
    let key = experiment.layout.outcome(run);
    // One that is there was written by a coordinator that died before it could say so.
    experiment
        .store
        .create_json(&key, &outcome)
        .await
        .map_err(|error| shell.store_failed(error))?;
    in_progress.end(Some(Completion::Trained(outcome)));
    tracing::info!(
        %run,
        epochs = outcome.epochs,
        best_epoch = %outcome.best_epoch,
        best_valid_accuracy = %human::percentage(outcome.best_valid_accuracy),
        stop_reason = ?outcome.stop_reason,
        "run finished"
    );
    Ok(())
}

/// Writes the ensemble's evaluation and finishes the experiment.
pub(super) async fn evaluation(
    shell: Arc<Shell>,
    lease: LeaseId,
    report: EvaluationReport,
) -> Result<(), Status> {
    if lease.task != Task::Evaluate {
        return Err(Status::invalid_argument("only the evaluation has a report"));
    }
    report.validate().map_err(bad)?;
    let experiment = &shell.experiment;
    if report.experiment != experiment.spec.experiment.name {
        return Err(Status::invalid_argument(
            "the report is of another experiment",
        ));
    }
    let Some(mut in_progress) = InProgress::begin(&shell, &lease).await? else {
        return Ok(());
    };
    shell.check_rule().await?;
    let (store, layout) = (&experiment.store, &experiment.layout);
    let table = Bytes::from(report::render(&report));
    store
        .create(&layout.evaluation_text(), table)
        .await
        .map_err(|error| shell.store_failed(error))?;
    store
        .create_json(&layout.evaluation(), &report)
        .await
        .map_err(|error| shell.store_failed(error))?;
    shell.set_report(report);
    in_progress.end(Some(Completion::Evaluated));
    tracing::info!("the ensemble is evaluated");
    Ok(())
}
