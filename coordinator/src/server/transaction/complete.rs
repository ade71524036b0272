//! Completions: the result of a task is written to the store, then the scheduler is told.

use std::sync::Arc;

use bytes::Bytes;
use quartet_shared::human;
use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::outcome::Outcome;
use quartet_shared::report::{self, EvaluationReport, Known, Partial};
use quartet_shared::spec::RunSpec;
use quartet_shared::state::TaskState;
use quartet_shared::task::{LeaseId, Task};
use quartet_store::manifest::StoredOutcome;
use tonic::Status;

use super::Transaction;
use super::catch_up::catch_up;
use crate::experiment::settle;
use crate::scheduler::{CompleteTicket, Completion, Refusal, Run, Scheduler};
use crate::server::assignment::{AssignmentError, best_manifest};
use crate::server::refusal::{bad, refused};
use crate::server::shell::Shell;
use crate::server::store_trouble::Proof;

/// Begins a completion. `None` if this lease has completed the task before, and the worker missed the
/// answer.
async fn begin(
    shell: &Arc<Shell>,
    lease: &LeaseId,
) -> Result<Option<Transaction<CompleteTicket>>, Status> {
    let scheduler = &shell.scheduler;
    let begin = || scheduler.tell(|scheduler, now| scheduler.begin_complete(lease, now));
    let mut begun = begin();
    if matches!(begun, Err(Refusal::Incomplete { .. })) && catch_up(shell, lease).await?.is_some() {
        begun = begin();
    }
    let ticket = begun.map_err(refused)?;
    Ok(ticket.map(|ticket| {
        Transaction::new(shell, ticket, |scheduler, ticket, now| {
            scheduler.end_complete(ticket, None, now);
        })
    }))
}

/// Ends a completion whose result is in the store.
fn end(transaction: Transaction<CompleteTicket>, completion: Completion) {
    transaction.end(|scheduler, ticket, now| {
        scheduler.end_complete(ticket, Some(completion), now);
    });
}

/// Writes a run's outcome and finishes the run.
pub(in crate::server) async fn complete_run(
    shell: Arc<Shell>,
    lease: LeaseId,
    outcome: Outcome,
) -> Result<(), Status> {
    let Task::Train(run) = &lease.task else {
        return Err(Status::invalid_argument("only a run has an outcome"));
    };
    let Some(transaction) = begin(&shell, &lease).await? else {
        return Ok(());
    };
    let committed = shell.scheduler.read(|scheduler, _| {
        let run = scheduler.run(run);
        run.and_then(Run::outcome)
    });
    if committed != Some(outcome) {
        return Err(Status::invalid_argument(
            "the outcome does not follow from the committed epochs",
        ));
    }
    shell.verify_leadership().await?;
    let experiment = &shell.experiment;
    let key = experiment.layout.outcome(run);
    let best = match best_manifest(&shell, run).await {
        Ok(best) => Some(best),
        // The evaluation finds it missing, too, and has the run trained again.
        Err(AssignmentError::Missing(_)) => None,
        Err(AssignmentError::Store(error)) => return Err(shell.store_failed(error)),
    };
    let stored = StoredOutcome {
        outcome,
        best_weights: best.map(|best| best.weights),
    };
    // One of an earlier form of the experiment may come late, from a coordinator that was replaced.
    settle::discard_outcome(experiment, run)
        .await
        .map_err(|error| shell.store_failed(error))?;
    // If one is there, a coordinator wrote it and died before it could answer.
    experiment
        .store
        .create_json(&key, &stored)
        .await
        .map_err(|error| shell.store_failed(error))?;
    shell.store_works(Proof::Write);
    end(transaction, Completion::Trained(outcome));
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

/// Writes the ensemble's evaluation and ends the experiment. What the ensemble lacks is told by the
/// scheduler, not by the worker.
pub(in crate::server) async fn complete_evaluation(
    shell: Arc<Shell>,
    lease: LeaseId,
    mut report: EvaluationReport,
) -> Result<(), Status> {
    if lease.task != Task::Evaluate {
        return Err(Status::invalid_argument("only the evaluation has a report"));
    }
    report.validate().map_err(bad)?;
    let experiment = &shell.experiment;
    let Some(transaction) = begin(&shell, &lease).await? else {
        return Ok(());
    };
    let missing = check_report(&shell, &report).await?;
    report.revision = experiment.spec.revision();
    report.partial = (!missing.is_empty()).then_some(Partial {
        missing,
        attempt: lease.attempt,
    });
    shell.verify_leadership().await?;
    // One of an earlier form of the experiment may come late, as with outcomes.
    settle::put_evaluation_aside(experiment)
        .await
        .map_err(|error| shell.leadership_failed(error))?;
    let store = &experiment.store;
    let results = experiment.layout.results_of(&report);
    let table = Bytes::from(report::render(&report));
    store
        .create(&results.evaluation_text(), table)
        .await
        .map_err(|error| shell.store_failed(error))?;
    store
        .create_json(&results.evaluation(), &report)
        .await
        .map_err(|error| shell.store_failed(error))?;
    shell.store_works(Proof::Write);
    shell.history.evaluated(report.clone());
    shell.conclusion.set_report(report);
    end(transaction, Completion::Evaluated);
    tracing::info!("the ensemble is evaluated");
    Ok(())
}

/// Checks that a report is of this experiment's data, and of the best epochs of its runs. Returns those that
/// failed for good.
async fn check_report(shell: &Shell, report: &EvaluationReport) -> Result<Vec<RunName>, Status> {
    let experiment = &shell.experiment.spec.experiment;
    // Nothing of a run that failed; nothing at all while one is open.
    let best_epoch = |scheduler: &Scheduler, run: &RunSpec| {
        let run = scheduler.run(&run.name)?;
        match run.record().state() {
            TaskState::Finished => Some(Some(run.outcome()?.best_epoch)),
            // It may have failed after its last epoch.
            TaskState::Failed => Some(None),
            _ => None,
        }
    };
    let best_epochs: Option<Vec<Option<Epoch>>> = shell.scheduler.read(|scheduler, _| {
        let runs = experiment.runs.iter();
        runs.map(|run| best_epoch(scheduler, run)).collect()
    });
    let best_epochs =
        best_epochs.ok_or_else(|| Status::failed_precondition("a run is being trained again"))?;
    let known = Known {
        experiment,
        best_epochs: &best_epochs,
        dataset: shell.dataset().await?,
    };
    report.check_against(known).map_err(bad)?;
    let runs = experiment.runs.iter().zip(&best_epochs);
    let missing = runs.filter(|(_, best_epoch)| best_epoch.is_none());
    Ok(missing.map(|(run, _)| run.name.clone()).collect())
}
