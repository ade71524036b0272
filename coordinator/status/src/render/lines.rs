//! What changed between two snapshots, one line each.

use std::collections::HashMap;

use quartet_shared::event::resumed_after;
use quartet_shared::human;
use quartet_shared::ids::{Epoch, WorkerId};
use quartet_shared::label::one_line;

use super::runs::position;
use super::{accuracies, finished, headline, percent, stall, trouble, wait, without};
use crate::snapshot::{
    EpochStatus, EvaluationStatus, RunStatus, Snapshot, TaskState, WorkerState, WorkerStatus,
};

/// A line for every change worth one, or for all that there is where nothing was seen before. Progress within
/// an epoch is no change, nor is the passing of time. What was committed comes before who left, and who left
/// before who came.
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
    let known = |run: &RunStatus| {
        let mut before = previous?.runs.iter();
        before.find(|before| before.name == run.name)
    };
    for run in now.runs.iter().filter(|_| previous.is_some()) {
        epoch_lines(known(run), run, &mut lines);
    }
    lines.extend(departures(previous, now));
    lines.extend(arrivals(previous, now));
    for run in &now.runs {
        run_lines(known(run), run, &mut lines);
    }
    // Who begins to look hears first who trains.
    for run in now.runs.iter().filter(|_| previous.is_none()) {
        epoch_lines(None, run, &mut lines);
    }
    let evaluation_before = previous.map(|previous| &previous.evaluation);
    lines.extend(evaluation_line(evaluation_before, now));
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
    let state = |snapshot: &Snapshot| (snapshot.state, snapshot.stopping);
    if previous.is_some_and(|previous| state(previous) != state(now)) {
        lines.push(headline(now));
    }
    lines
}

/// There may be thousands.
fn by_id(workers: &[WorkerStatus]) -> HashMap<&WorkerId, &WorkerStatus> {
    let workers = workers.iter();
    workers.map(|worker| (&worker.id, worker)).collect()
}

/// Who joined, or is back.
fn arrivals(previous: Option<&Snapshot>, now: &Snapshot) -> Vec<String> {
    let before = by_id(previous.map_or(&[][..], |previous| &previous.workers));
    let present = now.workers.iter().filter(|worker| worker.is_present());
    let arrived = present.filter_map(|worker| {
        let name = one_line(&worker.name);
        let before = before.get(&worker.id);
        match before.map(|before| (before.state, before.connected)) {
            None | Some((WorkerState::Lost, _)) => Some(format!(
                "worker {name} joined, {}",
                one_line(&worker.device)
            )),
            Some((_, false)) => Some(format!("worker {name} is back")),
            Some((_, true)) => None,
        }
    });
    arrived.collect()
}

/// Who left, is about to, or was lost.
fn departures(previous: Option<&Snapshot>, now: &Snapshot) -> Vec<String> {
    let Some(previous) = previous else {
        return Vec::new();
    };
    let (before, present) = (by_id(&previous.workers), by_id(&now.workers));
    // A coordinator that was started again knows of a worker once the worker has come back.
    let is_same = previous.term == now.term;
    let left = previous.workers.iter();
    let left = left
        .filter(|worker| is_same && worker.state != WorkerState::Lost)
        .filter(|worker| !present.contains_key(&worker.id))
        .map(|worker| match loss(previous, now, &worker.name) {
            Some(reason) => one_line(reason).into_owned(),
            None => format!("worker {} left", one_line(&worker.name)),
        });
    let changed = now.workers.iter().filter_map(|worker| {
        let name = one_line(&worker.name);
        match (before.get(&worker.id)?.state, worker.state) {
            (WorkerState::Lost, _) => None,
            (_, WorkerState::Lost) => Some(format!(
                "worker {name} was lost, last heard of {} ago",
                human::duration(worker.since_heartbeat)
            )),
            (WorkerState::Draining, _) => None,
            (_, WorkerState::Draining) => {
                Some(format!("worker {name} hands its task back and leaves"))
            }
            _ => None,
        }
    });
    left.chain(changed).collect()
}

/// Why the run that a worker had was taken from it, if its attempt has ended since without a result. The
/// reason names the worker.
fn loss<'a>(previous: &Snapshot, now: &'a Snapshot, worker: &str) -> Option<&'a str> {
    let mut held = previous.runs.iter();
    let held = held.find(|run| run.worker.as_deref() == Some(worker))?;
    let run = now.runs.iter().find(|run| run.name == held.name)?;
    let is_taken = run.attempt > held.attempt || run.state == TaskState::Pending;
    run.reason.as_deref().filter(|_| is_taken)
}

fn run_lines(before: Option<&RunStatus>, run: &RunStatus, lines: &mut Vec<String>) {
    let name = &run.name;
    let state_before = before.map_or(TaskState::Pending, |before| before.state);
    // The worker's name may become better known while the attempt is the same.
    let attempt_before = before.map_or(0, |before| before.attempt.0);
    // A coordinator that was started again waits for the workers of older attempts.
    let is_leased = run.state == TaskState::Leased && run.awaited.is_none();
    if is_leased && (state_before, attempt_before) != (run.state, run.attempt.0) {
        lines.push(format!("{name}  {}", started(before, run)));
    }
    let worker = run.worker.as_deref();
    if let (Some(stalled), None) = (run.stalled, before.and_then(|before| before.stalled)) {
        lines.push(format!("{name}  {}", stall(stalled, worker)));
    }
    if let (Some(awaited), None) = (run.awaited, before.and_then(|before| before.awaited)) {
        lines.push(format!("{name}  {}", wait(awaited, worker)));
    }
    if state_before == run.state {
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
    match (before, resumed_after(position(run))) {
        (None, _) => format!("is trained by {worker}{attempt}"),
        (Some(_), None) => format!("starts on {worker}{attempt}"),
        (Some(_), Some(after)) => format!("goes on {after} on {worker}{attempt}"),
    }
}

/// A line for every epoch since, or for the last one where nothing was seen before.
fn epoch_lines(before: Option<&RunStatus>, run: &RunStatus, lines: &mut Vec<String>) {
    let committed = run.epochs_committed;
    let first = match before {
        Some(before) => before.epochs_committed.saturating_add(1),
        None if run.state == TaskState::Finished => return,
        None => committed,
    };
    // An older coordinator tells of the last epoch alone.
    let last = run.metrics.zip(run.early_stopping);
    let last = last.map(|(metrics, early_stopping)| EpochStatus {
        epoch: Epoch(committed),
        metrics,
        early_stopping,
    });
    let last = last.filter(|_| run.recent_epochs.is_empty());
    let epochs = run.recent_epochs.iter().copied().chain(last);
    let new = epochs.filter(|epoch| (first..=committed).contains(&epoch.epoch.0));
    lines.extend(new.map(|epoch| epoch_line(run, &epoch)));
}

fn epoch_line(run: &RunStatus, done: &EpochStatus) -> String {
    let EpochStatus {
        epoch,
        metrics,
        early_stopping: early,
    } = done;
    format!(
        "{}  epoch {epoch}/{}  train loss {:.3} acc {}  valid loss {:.3} acc {}  best {} (epoch {})",
        run.name,
        run.epochs,
        metrics.train_loss,
        percent(metrics.train_accuracy),
        metrics.valid_loss,
        percent(metrics.valid_accuracy),
        percent(early.best_valid_accuracy),
        early.best_epoch,
    )
}

fn evaluation_line(before: Option<&EvaluationStatus>, snapshot: &Snapshot) -> Option<String> {
    let now = &snapshot.evaluation;
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
            let without = without(snapshot);
            Some(format!("ensemble  is evaluated{without} by {worker}"))
        }
        state if state == before_state => None,
        TaskState::Finished => Some(format!("ensemble  {}", accuracies(snapshot))),
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
