//! The table of the runs.

use quartet_shared::human;
use quartet_shared::ids::Epoch;
use quartet_shared::label::one_line;
use quartet_shared::position::Position;
use quartet_shared::progress::{Phase, Progress};
use quartet_shared::terminal::columns as width_of;

use super::columns::Column;
use super::{eta, loss_and_accuracy, percent, phase};
use crate::snapshot::{RunStatus, TaskState};

/// Steps of an epoch are seldom more, as far as the layout is concerned.
const STEP_DIGITS: usize = 4;
/// `12.34 100.0 %`.
const LOSS_AND_ACCURACY: usize = 13;
/// `100.0 % ()`, and the digits of an epoch.
const BEST: usize = 10;
/// `9 h 59 min`.
const ETA: usize = 10;
/// The longest state: `validating`.
const STATE: usize = 10;
const WORKER: usize = 16;
const SPEED: usize = 6;

/// Attempts are shown from the second on: that there was a first goes without saying.
pub(super) fn columns(runs: &[RunStatus]) -> [Column<RunStatus>; 12] {
    let name = runs.iter().map(|run| width_of(run.name.as_str())).max();
    let digits = |number: u32| number.to_string().len();
    let epoch = runs.iter().map(|run| digits(run.epochs)).max().unwrap_or(1);
    let steps = runs.iter().filter_map(|run| run.progress);
    let steps = steps.map(|progress| digits(progress.steps)).max();
    let step = steps.unwrap_or(0).max(STEP_DIGITS);
    [
        Column::name("run", 0, name.unwrap_or(0), |run| run.name.to_string()),
        Column::text("state", 0, STATE, |run| state(run).to_owned()),
        Column::number("attempt", 11, 0, |run| match run.attempt.0 {
            0 | 1 => String::new(),
            attempt => attempt.to_string(),
        }),
        Column::text("worker", 7, WORKER, |run| {
            one_line(run.worker.as_deref().unwrap_or_default()).into()
        }),
        Column::number("epoch", 0, 2 * epoch + 1, |run| {
            format!("{}/{}", epoch_of(run), run.epochs)
        }),
        Column::number("step", 6, 2 * step + 1, step_of),
        Column::number("img/s", 8, SPEED, speed),
        Column::text("train loss acc", 9, LOSS_AND_ACCURACY, train),
        Column::text("valid loss acc", 3, LOSS_AND_ACCURACY, |run| {
            run.metrics.map_or_else(String::new, |metrics| {
                loss_and_accuracy(metrics.valid_loss, metrics.valid_accuracy)
            })
        }),
        Column::text("best (epoch)", 4, BEST + epoch, |run| {
            run.early_stopping.map_or_else(String::new, |early| {
                let best = percent(early.best_valid_accuracy);
                format!("{best} ({})", early.best_epoch)
            })
        }),
        Column::number("ETA", 5, ETA, |run| match is_awaited(run) {
            true => String::new(),
            false => run.eta.map_or_else(String::new, eta),
        }),
        Column::text(
            "checkpoint",
            10,
            "epoch , step ".len() + epoch + step,
            |run| match position(run) {
                position if position > Position::default() => position.to_string(),
                _ => String::new(),
            },
        ),
    ]
}

/// What a leased run is doing says more than that it is leased.
#[must_use]
pub fn state(run: &RunStatus) -> &'static str {
    match (run.state, &run.progress) {
        (TaskState::Leased, _) if is_awaited(run) => "waiting",
        (TaskState::Leased, Some(progress)) => phase(progress.phase),
        (TaskState::Leased, None) => "starting",
        (state, _) => state.as_str(),
    }
}

/// Which runs are shown first where not all fit.
pub(super) fn urgency(run: &RunStatus) -> u8 {
    match run.state {
        TaskState::Leased => 0,
        TaskState::Failed => 1,
        TaskState::Pending => 2,
        TaskState::Blocked => 3,
        TaskState::Finished => 4,
    }
}

/// How far the run is in the store.
pub(super) fn position(run: &RunStatus) -> Position {
    Position {
        epoch: Epoch(run.epochs_committed),
        step: run.steps_committed,
    }
}

fn is_awaited(run: &RunStatus) -> bool {
    run.awaited.is_some()
}

/// What its worker is doing, if the worker is there.
fn doing(run: &RunStatus) -> Option<Progress> {
    run.progress
        .filter(|_| run.state == TaskState::Leased && !is_awaited(run))
}

/// The epoch in progress, be it in the store, or else the last committed one.
fn epoch_of(run: &RunStatus) -> u32 {
    match doing(run) {
        Some(progress) if progress.epoch.0 > 0 => progress.epoch.0,
        _ if run.steps_committed > 0 => run.epochs_committed.saturating_add(1),
        _ => run.epochs_committed,
    }
}

/// The step in progress, or else the one of the checkpoint within an epoch.
fn step_of(run: &RunStatus) -> String {
    match doing(run) {
        Some(progress) => step(&progress),
        None if run.steps_committed > 0 => run.steps_committed.to_string(),
        None => String::new(),
    }
}

/// `120/898`.
pub(super) fn step(progress: &Progress) -> String {
    if progress.steps == 0 {
        String::new()
    } else {
        format!("{}/{}", progress.step, progress.steps)
    }
}

/// The speed now, or else that of the last committed epoch.
fn speed(run: &RunStatus) -> String {
    if is_awaited(run) {
        return String::new();
    }
    let now = doing(run)
        .map(|progress| progress.images_per_second)
        .filter(|speed| *speed > 0.0);
    let speed = now.or_else(|| run.metrics.map(|metrics| metrics.images_per_second));
    speed.map_or_else(String::new, |speed| {
        human::rate(speed).trim_end_matches(" img/s").to_owned()
    })
}

/// The running means of the epoch in progress, or else those of the last committed one.
fn train(run: &RunStatus) -> String {
    let running = doing(run)
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
