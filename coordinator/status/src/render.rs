//! Snapshots for people: pure functions from data to text without colour.

mod columns;
mod lines;
mod notes;
mod runs;
mod table;
#[cfg(test)]
mod tests;
mod workers;

use std::time::Duration;

use quartet_shared::human;
use quartet_shared::ids::RunName;
use quartet_shared::label::one_line;
use quartet_shared::progress::Phase;

use super::snapshot::{RunStatus, Snapshot, StoreTrouble};

pub use lines::lines;
pub use runs::state as run_state;
pub use table::{screen, table};
pub use workers::{gpu, state as worker_state};

/// `1.23 45.1 %`.
fn loss_and_accuracy(loss: f64, accuracy: f64) -> String {
    format!("{loss:.2} {}", percent(accuracy))
}

/// Tenths of a percent: what a validation set of some thousand images can tell apart.
fn percent(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Preparing => "preparing",
        Phase::Training => "training",
        Phase::Validating => "validating",
        Phase::Evaluating => "evaluating",
        Phase::Uploading => "uploading",
    }
}

/// A time that is left, to the minute: an estimate is no better than that.
#[must_use]
pub fn eta(eta: Duration) -> String {
    match eta.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 36_000..172_800 => format!("{} h", seconds / 3600),
        _ => human::duration(eta),
    }
}

/// `experiment fer2013: training, 2 of 4 workers`.
fn headline(snapshot: &Snapshot) -> String {
    let (present, expected) = (
        snapshot.workers_present(),
        snapshot.workers_expected as usize,
    );
    let state = match (snapshot.state, present) {
        (state, _) if state.has_ended() || !snapshot.stopping => state.as_str(),
        (_, 0) => "stopped",
        _ => "stopping",
    };
    let mut text = format!("experiment {}: {state}", snapshot.experiment);
    if snapshot.state.has_ended() || (snapshot.stopping && present == 0) {
        return text;
    }
    text += &format!(
        ", {} of {}",
        present.min(expected),
        counted(expected, "worker")
    );
    if present > expected {
        text += &format!(", {}", counted(present - expected, "spare"));
    }
    text
}

/// `1 worker`, `2 workers`.
fn counted(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// `finished after 5 of 8 epochs, best 47.0 % (epoch 3)`.
fn finished(run: &RunStatus) -> String {
    let best = run.early_stopping.map_or_else(String::new, |early| {
        format!(
            ", best {} (epoch {})",
            percent(early.best_valid_accuracy),
            early.best_epoch
        )
    });
    format!(
        "finished after {} of {}{best}",
        run.epochs_committed,
        counted(run.epochs as usize, "epoch")
    )
}

/// `no progress for 3m 20s on gpu-1@node7`.
fn stall(stalled: Duration, worker: Option<&str>) -> String {
    let worker = worker.map_or_else(String::new, |worker| format!(" on {}", one_line(worker)));
    format!("no progress for {}{worker}", human::duration(stalled))
}

/// `the store has failed for 12 s, and is tried again: cannot read ...`.
fn trouble(trouble: &StoreTrouble) -> String {
    let (since, reason) = (human::duration(trouble.since), one_line(&trouble.reason));
    format!("the store has failed for {since}, and is tried again: {reason}")
}

/// `waits for gpu-1@node7 to come back, 14 s at most`.
fn wait(awaited: Duration, worker: Option<&str>) -> String {
    let worker = one_line(worker.unwrap_or("its worker"));
    let awaited = human::duration(awaited);
    format!("waits for {worker} to come back, {awaited} at most")
}

/// ` without vgg16`; nothing if the ensemble lacks none.
fn without(snapshot: &Snapshot) -> String {
    let missing: Vec<_> = snapshot
        .missing()
        .into_iter()
        .map(RunName::as_str)
        .collect();
    match &missing[..] {
        [] => String::new(),
        missing => format!(" without {}", missing.join(", ")),
    }
}

/// `accuracy: valid 62.10 % of 3589 images, test 63.00 % of 3589 images`.
fn accuracies(snapshot: &Snapshot) -> String {
    let splits = snapshot.evaluation.splits.iter().map(|split| {
        let accuracy = human::percentage(split.accuracy);
        format!(
            "{} {accuracy} of {} images",
            one_line(&split.split),
            split.images
        )
    });
    let splits = splits.collect::<Vec<_>>().join(", ");
    format!("accuracy{}: {splits}", without(snapshot))
}
