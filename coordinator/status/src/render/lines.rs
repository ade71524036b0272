//! What changed between two snapshots, one line each.

use std::collections::HashMap;

use quartet_shared::human;
use quartet_shared::ids::{Epoch, WorkerId};
use quartet_shared::label::one_line;
use quartet_shared::position::Position;

use super::{accuracies, finished, headline, percent, stall, trouble, wait};
use crate::snapshot::{
    EvaluationStatus, RunStatus, Snapshot, TaskState, WorkerState, WorkerStatus,
};

/// A line for every change worth one, or for all that there is where nothing was seen before. Progress within
/// an epoch is no change, nor is the passing of time.
#[must_use]
pub fn lines(previous: Option<&Snapshot>, now: &Snapshot) -> Vec<String> {
    let previous = previous.filter(|previous| previous.experiment == now.experiment);
    let mut lines = Vec::new();
    if let Some(previous) = previous.filter(|previous| previous.term != now.term) {
        lines.push(format!(
            "coordinator restarted (term {} after {})",
            now.term, previous.term
        ));
    }
    if previous.is_none() {
        lines.push(headline(now));
    }
    let workers_before = previous.map_or(&[][..], |previous| &previous.workers);
    lines.extend(worker_lines(workers_before, now));
    for run in &now.runs {
        let before = previous.and_then(|p| p.runs.iter().find(|before| before.name == run.name));
        run_lines(before, run, &mut lines);
    }
    let evaluation_before = previous.map(|previous| &previous.evaluation);
    lines.extend(evaluation_line(evaluation_before, &now.evaluation));
    let worker = now.evaluation.worker.as_deref();
    let stalled_before = evaluation_before.and_then(|before| before.stalled);
    if let (Some(stalled), None) = (now.evaluation.stalled, stalled_before) {
        lines.push(format!("ensemble  {}", stall(stalled, worker)));
    }
    let awaited_before = evaluation_before.and_then(|before| before.awaited);
    if let (Some(awaited), None) = (now.evaluation.awaited, awaited_before) {
        lines.push(format!("ensemble  {}", wait(awaited, worker)));
    }
    let trouble_before = previous.and_then(|previous| previous.store_trouble.as_ref());
    match (trouble_before, &now.store_trouble) {
        (None, Some(now)) => lines.push(trouble(now)),
        (Some(_), None) => lines.push("the store works again".to_owned()),
        _ => {}
    }
    if previous.is_some_and(|previous| previous.state != now.state) {
        lines.push(headline(now));
    }
    lines
}

fn worker_lines(before: &[WorkerStatus], now: &Snapshot) -> Vec<String> {
    // There may be thousands.
    let by_id = |workers: &'_ [WorkerStatus]| -> HashMap<WorkerId, WorkerState> {
        let states = workers
            .iter()
            .map(|worker| (worker.id.clone(), worker.state));
        states.collect()
    };
    let (states_before, states_now) = (by_id(before), by_id(&now.workers));
    let left = before
        .iter()
        .filter(|worker| worker.state != WorkerState::Lost)
        .filter(|worker| !states_now.contains_key(&worker.id))
        .map(|worker| format!("worker {} left", one_line(&worker.name)));
    let changed = now.workers.iter().filter_map(|worker| {
        let before = states_before.get(&worker.id);
        let before = before.copied().unwrap_or(WorkerState::Lost);
        let name = one_line(&worker.name);
        match (before, worker.state) {
            (WorkerState::Lost, WorkerState::Lost) => None,
            (WorkerState::Lost, _) => Some(format!(
                "worker {name} joined, {}",
                one_line(&worker.device)
            )),
            (_, WorkerState::Lost) => Some(format!(
                "worker {name} lost, last heard {} ago",
                human::duration(worker.since_heartbeat)
            )),
            (WorkerState::Draining, WorkerState::Draining) => None,
            (_, WorkerState::Draining) => {
                Some(format!("worker {name} hands its work back and leaves"))
            }
            _ => None,
        }
    });
    left.chain(changed).collect()
}

/// Where a task was: (state, attempt, worker).
type Place<'a> = (TaskState, u32, Option<&'a str>);

fn place(run: &RunStatus) -> Place<'_> {
    (run.state, run.attempt.0, run.worker.as_deref())
}

fn run_lines(before: Option<&RunStatus>, run: &RunStatus, lines: &mut Vec<String>) {
    let name = &run.name;
    let committed_before = before.map_or(0, |before| before.epochs_committed);
    let place_before = before.map_or((TaskState::Pending, 0, None), place);
    let moved = place_before != place(run);
    if moved && run.state == TaskState::Leased {
        lines.push(format!("{name}  {}", started(before, run)));
    }
    if run.epochs_committed > committed_before
        && (before.is_some() || run.state != TaskState::Finished)
    {
        lines.extend(epoch_line(run));
    }
    let worker = run.worker.as_deref();
    if let (Some(stalled), None) = (run.stalled, before.and_then(|before| before.stalled)) {
        lines.push(format!("{name}  {}", stall(stalled, worker)));
    }
    if let (Some(awaited), None) = (run.awaited, before.and_then(|before| before.awaited)) {
        lines.push(format!("{name}  {}", wait(awaited, worker)));
    }
    if place_before.0 == run.state {
        return;
    }
    match run.state {
        TaskState::Finished => lines.push(format!("{name}  {}", finished(run))),
        TaskState::Failed => {
            lines.push(format!("{name}  failed: {}", reason(run.reason.as_deref())))
        }
        TaskState::Pending | TaskState::Blocked => {
            lines.push(format!("{name}  {}", waits(run.reason.as_deref())))
        }
        TaskState::Leased => {}
    }
}

/// `goes on after epoch 3 on gpu-1 (attempt 2)`.
fn started(before: Option<&RunStatus>, run: &RunStatus) -> String {
    let worker = one_line(run.worker.as_deref().unwrap_or("a worker"));
    let attempt = match run.attempt.0 {
        0 | 1 => String::new(),
        attempt => format!(" (attempt {attempt})"),
    };
    match before {
        None => format!("is trained by {worker}{attempt}"),
        Some(_) if run.epochs_committed == 0 && run.steps_committed == 0 => {
            format!("starts on {worker}{attempt}")
        }
        Some(_) => {
            let after = Position {
                epoch: Epoch(run.epochs_committed),
                step: run.steps_committed,
            };
            format!("goes on after {after} on {worker}{attempt}")
        }
    }
}

fn epoch_line(run: &RunStatus) -> Option<String> {
    let metrics = run.metrics.as_ref()?;
    let best = run.early_stopping.map_or_else(String::new, |early| {
        format!(
            "  best {} (epoch {})",
            percent(early.best_valid_accuracy),
            early.best_epoch
        )
    });
    Some(format!(
        "{}  epoch {}/{}  train loss {:.3} acc {}  valid loss {:.3} acc {}{best}",
        run.name,
        run.epochs_committed,
        run.epochs,
        metrics.train_loss,
        percent(metrics.train_accuracy),
        metrics.valid_loss,
        percent(metrics.valid_accuracy),
    ))
}

fn evaluation_line(before: Option<&EvaluationStatus>, now: &EvaluationStatus) -> Option<String> {
    let place = |evaluation: &EvaluationStatus| {
        (
            evaluation.state,
            evaluation.attempt,
            evaluation.worker.clone(),
        )
    };
    let before_state = before.map_or(TaskState::Blocked, |before| before.state);
    match now.state {
        TaskState::Leased if before.map(place) != Some(place(now)) => {
            let worker = one_line(now.worker.as_deref().unwrap_or("a worker"));
            Some(format!("ensemble  is evaluated by {worker}"))
        }
        state if state == before_state => None,
        TaskState::Finished => Some(format!("ensemble  {}", accuracies(now))),
        TaskState::Failed => Some(format!(
            "ensemble  failed: {}",
            reason(now.reason.as_deref())
        )),
        TaskState::Pending if before_state == TaskState::Leased => {
            Some(format!("ensemble  {}", waits(now.reason.as_deref())))
        }
        _ => None,
    }
}

fn waits(reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("waits for a worker again: {}", one_line(reason)),
        None => "waits for a worker again".to_owned(),
    }
}

fn reason(reason: Option<&str>) -> String {
    reason.map_or_else(
        || "for unknown reasons".to_owned(),
        |reason| one_line(reason).into_owned(),
    )
}
