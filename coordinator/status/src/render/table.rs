//! A snapshot as tables.

use std::time::Duration;

use quartet_shared::gpu::GpuUse;
use quartet_shared::human;
use quartet_shared::label::one_line;
use quartet_shared::progress::{Phase, Progress};

use super::columns::{Column, layout};
use super::{accuracies, headline, loss_and_accuracy, percent, phase, stall, trouble, wait};
use crate::snapshot::{ExperimentState, RunStatus, Snapshot, TaskState, WorkerState, WorkerStatus};

/// The whole state: headline, runs, workers, the ensemble, and why something failed. The tables are at most
/// `width` characters wide. Ends with a newline.
#[must_use]
pub fn table(snapshot: &Snapshot, width: u16) -> String {
    let mut headline = format!(
        "{}, up {}",
        headline(snapshot),
        human::duration(snapshot.uptime)
    );
    if snapshot.term.0 > 1 {
        headline += &format!(" (term {})", snapshot.term);
    }
    let workers = if snapshot.workers.is_empty() {
        no_workers(snapshot.state).to_owned()
    } else {
        layout(&worker_columns(), &snapshot.workers, width)
    };
    let mut parts = vec![
        headline,
        layout(&run_columns(), &snapshot.runs, width),
        workers,
    ];
    let notes: Vec<_> = snapshot
        .runs
        .iter()
        .flat_map(|run| [run_note(run), stall_note(run), wait_note(run)])
        .flatten()
        .chain(ensemble_note(snapshot))
        .chain(snapshot.store_trouble.as_ref().map(trouble))
        .chain(insecure_note(snapshot))
        .collect();
    if !notes.is_empty() {
        parts.push(notes.join("\n"));
    }
    parts.join("\n\n") + "\n"
}

/// Attempts are shown from the second on: that there was a first goes without saying.
fn run_columns() -> [Column<RunStatus>; 11] {
    [
        Column::left("run", 0, |run| run.name.to_string()),
        Column::left("state", 0, |run| run_state(run).to_owned()),
        Column::right("attempt", 10, |run| match run.attempt.0 {
            0 | 1 => String::new(),
            attempt => attempt.to_string(),
        }),
        Column::left("worker", 6, |run| {
            one_line(run.worker.as_deref().unwrap_or_default()).into()
        }),
        Column::right("epoch", 0, |run| format!("{}/{}", epoch(run), run.epochs)),
        Column::right("step", 7, |run| {
            run.progress.as_ref().map_or_else(String::new, step)
        }),
        Column::right("img/s", 9, speed),
        Column::left("train", 8, train),
        Column::left("valid", 3, |run| {
            run.metrics.map_or_else(String::new, |metrics| {
                loss_and_accuracy(metrics.valid_loss, metrics.valid_accuracy)
            })
        }),
        Column::left("best (epoch)", 4, |run| {
            run.early_stopping.map_or_else(String::new, |early| {
                format!(
                    "{} ({})",
                    percent(early.best_valid_accuracy),
                    early.best_epoch
                )
            })
        }),
        Column::right("ETA", 5, |run| run.eta.map_or_else(String::new, eta)),
    ]
}

fn worker_columns() -> [Column<WorkerStatus>; 6] {
    [
        Column::left("worker", 0, |worker| one_line(&worker.name).into()),
        Column::left("device", 2, |worker| one_line(&worker.device).into()),
        Column::left("state", 0, |worker| worker.state.to_string()),
        Column::left("task", 1, |worker| {
            worker
                .task
                .as_ref()
                .map_or_else(String::new, ToString::to_string)
        }),
        Column::left("GPU", 3, |worker| worker.gpu.map_or_else(String::new, gpu)),
        Column::right("last heartbeat", 4, |worker| match worker.state {
            WorkerState::Lost => String::new(),
            _ => format!("{} ago", human::duration(worker.since_heartbeat)),
        }),
    ]
}

/// `87 %, 41.2 of 79.6 GiB, 63 °C`.
fn gpu(gpu: GpuUse) -> String {
    let gibibytes = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let busy = gpu.busy_percent.map(|percent| format!("{percent} %"));
    let (used, total) = (gibibytes(gpu.memory_used), gibibytes(gpu.memory_total));
    let memory = Some(format!("{used:.1} of {total:.1} GiB"));
    let temperature = gpu.temperature.map(|degrees| format!("{degrees} °C"));
    let known: Vec<_> = [busy, memory, temperature].into_iter().flatten().collect();
    known.join(", ")
}

/// What a leased run is doing says more than that it is leased.
fn run_state(run: &RunStatus) -> &'static str {
    match (run.state, &run.progress) {
        (TaskState::Leased, Some(progress)) => phase(progress.phase),
        (state, _) => state.as_str(),
    }
}

/// The epoch in progress, or else the last committed one.
fn epoch(run: &RunStatus) -> u32 {
    match &run.progress {
        Some(progress) if run.state == TaskState::Leased && progress.epoch.0 > 0 => {
            progress.epoch.0
        }
        _ => run.epochs_committed,
    }
}

fn step(progress: &Progress) -> String {
    if progress.steps == 0 {
        String::new()
    } else {
        format!("{}/{}", progress.step, progress.steps)
    }
}

/// The speed now, or else that of the last committed epoch.
fn speed(run: &RunStatus) -> String {
    let now = run
        .progress
        .map(|progress| progress.images_per_second)
        .filter(|speed| *speed > 0.0);
    let speed = now.or_else(|| run.metrics.map(|metrics| metrics.images_per_second));
    speed.map_or_else(String::new, |speed| {
        human::rate(speed).trim_end_matches(" img/s").to_owned()
    })
}

/// To the minute: an estimate is no better than that.
fn eta(eta: Duration) -> String {
    match eta.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        _ => human::duration(eta),
    }
}

/// The running means of the epoch in progress, or else those of the last committed one.
fn train(run: &RunStatus) -> String {
    let running = run
        .progress
        .filter(|progress| progress.phase == Phase::Training)
        .and_then(|progress| progress.loss.zip(progress.accuracy));
    let committed = run
        .metrics
        .map(|metrics| (metrics.train_loss, metrics.train_accuracy));
    let shown = running.or(committed);
    shown.map_or_else(String::new, |(loss, accuracy)| {
        loss_and_accuracy(loss, accuracy)
    })
}

fn no_workers(state: ExperimentState) -> &'static str {
    match state {
        ExperimentState::Finished | ExperimentState::Failed => "no workers",
        _ => "no workers yet: start them with `worker --coordinator HOST:PORT`",
    }
}

fn run_note(run: &RunStatus) -> Option<String> {
    let reason = one_line(run.reason.as_deref()?);
    match run.state {
        TaskState::Failed => Some(format!("{} failed: {reason}", run.name)),
        TaskState::Finished => None,
        _ => Some(format!("{}: its last attempt ended: {reason}", run.name)),
    }
}

fn stall_note(run: &RunStatus) -> Option<String> {
    Some(format!(
        "{}: {}",
        run.name,
        stall(run.stalled?, run.worker.as_deref())
    ))
}

fn wait_note(run: &RunStatus) -> Option<String> {
    let wait = wait(run.awaited?, run.worker.as_deref());
    Some(format!("{}: {wait}", run.name))
}

fn insecure_note(snapshot: &Snapshot) -> Option<String> {
    let note = "insecure: no keys are used, and whoever reaches the coordinator may do everything";
    snapshot.insecure.then(|| note.to_owned())
}

fn ensemble_note(snapshot: &Snapshot) -> Option<String> {
    let evaluation = &snapshot.evaluation;
    let reason = evaluation.reason.as_deref().map(one_line);
    match evaluation.state {
        TaskState::Finished => Some(format!("ensemble {}", accuracies(evaluation))),
        TaskState::Failed => Some(format!(
            "ensemble failed: {}",
            reason.unwrap_or("for unknown reasons".into())
        )),
        TaskState::Leased => {
            let worker = one_line(evaluation.worker.as_deref().unwrap_or("a worker"));
            let step = evaluation
                .progress
                .as_ref()
                .map(step)
                .filter(|step| !step.is_empty());
            let step = step.map_or_else(String::new, |step| format!(", step {step}"));
            let stalled = evaluation.stalled.map_or_else(String::new, |stalled| {
                format!("; {}", stall(stalled, evaluation.worker.as_deref()))
            });
            let awaited = evaluation.awaited.map_or_else(String::new, |awaited| {
                format!("; {}", wait(awaited, evaluation.worker.as_deref()))
            });
            Some(format!(
                "ensemble: evaluated by {worker}{step}{stalled}{awaited}"
            ))
        }
        TaskState::Blocked | TaskState::Pending => reason
            .map(|reason| format!("ensemble: the last attempt to evaluate it ended: {reason}")),
    }
}
