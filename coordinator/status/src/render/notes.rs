//! What the tables do not say, a line each.

use quartet_shared::event::resumed_after;
use quartet_shared::label::one_line;

use super::runs::{position, step};
use super::{accuracies, stall, trouble, wait, without};
use crate::snapshot::{RunStatus, Snapshot, TaskState};

/// What has failed, who is waited for, and the ensemble.
pub(super) fn notes(snapshot: &Snapshot) -> Vec<String> {
    let runs = snapshot.runs.iter();
    let runs = runs.flat_map(|run| {
        [
            of_run(run),
            of_checkpoint(run),
            of_stall(run),
            of_input(run),
            of_wait(run),
        ]
    });
    runs.flatten()
        .chain(of_ensemble(snapshot))
        .chain(snapshot.store_trouble.as_ref().map(trouble))
        .chain(of_keys(snapshot))
        .collect()
}

fn of_run(run: &RunStatus) -> Option<String> {
    let reason = one_line(run.reason.as_deref()?);
    match run.state {
        TaskState::Failed => Some(format!("{} failed: {reason}", run.name)),
        TaskState::Finished => None,
        _ => Some(format!("{}: its last attempt ended: {reason}", run.name)),
    }
}

/// Where a run goes on that no worker has, if that is within an epoch.
fn of_checkpoint(run: &RunStatus) -> Option<String> {
    let is_waiting = run.state == TaskState::Pending && run.steps_committed > 0;
    let after = resumed_after(position(run)).filter(|_| is_waiting)?;
    Some(format!("{}: goes on {after}", run.name))
}

/// From this part of the time on it is worth a line that a device waits for its input.
const MUCH: f64 = 0.1;

fn of_input(run: &RunStatus) -> Option<String> {
    let share = run.progress?.input_wait.filter(|share| *share >= MUCH)?;
    let percent = 100.0 * share;
    Some(format!(
        "{}: its device waits for input {percent:.0} % of the time",
        run.name
    ))
}

fn of_stall(run: &RunStatus) -> Option<String> {
    let stall = stall(run.stalled?, run.worker.as_deref());
    Some(format!("{}: {stall}", run.name))
}

fn of_wait(run: &RunStatus) -> Option<String> {
    let wait = wait(run.awaited?, run.worker.as_deref());
    Some(format!("{}: {wait}", run.name))
}

fn of_keys(snapshot: &Snapshot) -> Option<String> {
    let note = "insecure: no keys are used, and whoever reaches the coordinator may do everything";
    snapshot.insecure.then(|| note.to_owned())
}

fn of_ensemble(snapshot: &Snapshot) -> Option<String> {
    let evaluation = &snapshot.evaluation;
    let reason = evaluation.reason.as_deref().map(one_line);
    match evaluation.state {
        TaskState::Finished => Some(format!("ensemble {}", accuracies(snapshot))),
        TaskState::Failed => Some(format!(
            "ensemble failed: {}",
            reason.unwrap_or("for unknown reasons".into())
        )),
        TaskState::Leased => {
            let worker = one_line(evaluation.worker.as_deref().unwrap_or("a worker"));
            let progress = evaluation.progress.as_ref();
            let step = progress.map(step).filter(|step| !step.is_empty());
            let step = step.map_or_else(String::new, |step| format!(", step {step}"));
            let stalled = evaluation.stalled.map_or_else(String::new, |stalled| {
                format!("; {}", stall(stalled, evaluation.worker.as_deref()))
            });
            let awaited = evaluation.awaited.map_or_else(String::new, |awaited| {
                format!("; {}", wait(awaited, evaluation.worker.as_deref()))
            });
            Some(format!(
                "ensemble{}: evaluated by {worker}{step}{stalled}{awaited}",
                without(snapshot)
            ))
        }
        TaskState::Blocked | TaskState::Pending => reason
            .map(|reason| format!("ensemble: the last attempt to evaluate it ended: {reason}")),
    }
}
