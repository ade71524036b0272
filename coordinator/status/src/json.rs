//! Snapshots for programs. The names and meanings of the fields are stable: fields may be added, none
//! changes.
//!
//! Times are in seconds, accuracies are fractions of 1, and states are lower-case words. What is absent is
//! null, as are losses that are not finite.

use serde::Serialize;

use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::gpu::GpuUse;
use quartet_shared::ids::RunName;
use quartet_shared::progress::{EpochMetrics, Phase, Progress};
use quartet_shared::task::Task;

use super::snapshot;

/// A snapshot as one line without its newline.
#[must_use]
pub fn line(snapshot: &snapshot::Snapshot) -> String {
    serde_json::to_string(&Event::from(snapshot)).expect("maps have only text keys")
}

/// A snapshot as several lines, for reading.
#[must_use]
pub fn pretty(snapshot: &snapshot::Snapshot) -> String {
    serde_json::to_string_pretty(&Event::from(snapshot)).expect("maps have only text keys")
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Snapshot(Snapshot<'a>),
}

#[derive(Serialize)]
struct Snapshot<'a> {
    experiment: &'a str,
    revision: u32,
    term: u64,
    state: &'static str,
    workers_expected: u32,
    workers_present: usize,
    uptime_seconds: f64,
    eta_seconds: Option<f64>,
    stopping: bool,
    insecure: bool,
    store_trouble: Option<StoreTrouble<'a>>,
    runs: Vec<Run<'a>>,
    evaluation: Evaluation<'a>,
    workers: Vec<Worker<'a>>,
}

#[derive(Serialize)]
struct StoreTrouble<'a> {
    seconds: f64,
    reason: &'a str,
}

#[derive(Serialize)]
struct Run<'a> {
    name: &'a str,
    backbone: &'static str,
    state: &'static str,
    attempt: u32,
    worker: Option<&'a str>,
    epochs_committed: u32,
    steps_committed: u32,
    epochs: u32,
    metrics: Option<Metrics>,
    early_stopping: Option<Stopping>,
    recent_epochs: Vec<RecentEpoch>,
    progress: Option<Doing>,
    eta_seconds: Option<f64>,
    stalled_seconds: Option<f64>,
    awaited_seconds: Option<f64>,
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct RecentEpoch {
    epoch: u32,
    metrics: Metrics,
    early_stopping: Stopping,
}

#[derive(Serialize)]
struct Metrics {
    train_loss: f64,
    train_accuracy: f64,
    valid_loss: f64,
    valid_accuracy: f64,
    images_per_second: f64,
    seconds: f64,
}

#[derive(Serialize)]
struct Stopping {
    best_epoch: u32,
    best_valid_accuracy: f64,
    wait: u32,
}

#[derive(Serialize)]
struct Doing {
    phase: &'static str,
    epoch: u32,
    epochs: u32,
    step: u32,
    steps: u32,
    images_per_second: f64,
    /// The part of the time in which the device waited for its input.
    input_wait: Option<f64>,
    loss: Option<f64>,
    accuracy: Option<f64>,
}

#[derive(Serialize)]
struct Evaluation<'a> {
    state: &'static str,
    attempt: u32,
    worker: Option<&'a str>,
    progress: Option<Doing>,
    stalled_seconds: Option<f64>,
    awaited_seconds: Option<f64>,
    reason: Option<&'a str>,
    /// Runs that failed for good, which it lacks.
    missing: Vec<&'a str>,
    splits: Vec<Split<'a>>,
}

#[derive(Serialize)]
struct Split<'a> {
    split: &'a str,
    images: u64,
    accuracy: f64,
}

#[derive(Serialize)]
struct Worker<'a> {
    id: &'a str,
    name: &'a str,
    device: &'a str,
    state: &'static str,
    connected: bool,
    task: Option<Work<'a>>,
    since_heartbeat_seconds: f64,
    gpu: Option<GpuUse>,
    stays: bool,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Work<'a> {
    Train { run: &'a str },
    Evaluate,
}

impl<'a> From<&'a snapshot::Snapshot> for Event<'a> {
    fn from(from: &'a snapshot::Snapshot) -> Self {
        Self::Snapshot(Snapshot {
            experiment: from.experiment.as_str(),
            revision: from.revision.0,
            term: from.term.0,
            state: from.state.as_str(),
            workers_expected: from.workers_expected,
            workers_present: from.workers_present(),
            uptime_seconds: from.uptime.as_secs_f64(),
            eta_seconds: from.eta.map(|eta| eta.as_secs_f64()),
            stopping: from.stopping,
            insecure: from.insecure,
            store_trouble: from.store_trouble.as_ref().map(|trouble| StoreTrouble {
                seconds: trouble.since.as_secs_f64(),
                reason: &trouble.reason,
            }),
            runs: from.runs.iter().map(run).collect(),
            evaluation: Evaluation {
                missing: from.missing().into_iter().map(RunName::as_str).collect(),
                ..evaluation(&from.evaluation)
            },
            workers: from.workers.iter().map(worker).collect(),
        })
    }
}

fn run(from: &snapshot::RunStatus) -> Run<'_> {
    Run {
        name: from.name.as_str(),
        backbone: from.backbone.as_str(),
        state: from.state.as_str(),
        attempt: from.attempt.0,
        worker: from.worker.as_deref(),
        epochs_committed: from.epochs_committed,
        steps_committed: from.steps_committed,
        epochs: from.epochs,
        metrics: from.metrics.as_ref().map(metrics),
        early_stopping: from.early_stopping.as_ref().map(stopping),
        recent_epochs: from.recent_epochs.iter().map(recent_epoch).collect(),
        progress: from.progress.as_ref().map(doing),
        eta_seconds: from.eta.map(|eta| eta.as_secs_f64()),
        stalled_seconds: from.stalled.map(|stalled| stalled.as_secs_f64()),
        awaited_seconds: from.awaited.map(|awaited| awaited.as_secs_f64()),
        reason: from.reason.as_deref(),
    }
}

fn recent_epoch(from: &snapshot::EpochStatus) -> RecentEpoch {
    RecentEpoch {
        epoch: from.epoch.0,
        metrics: metrics(&from.metrics),
        early_stopping: stopping(&from.early_stopping),
    }
}

fn metrics(from: &EpochMetrics) -> Metrics {
    Metrics {
        train_loss: from.train_loss,
        train_accuracy: from.train_accuracy,
        valid_loss: from.valid_loss,
        valid_accuracy: from.valid_accuracy,
        images_per_second: from.images_per_second,
        seconds: from.seconds,
    }
}

fn stopping(from: &EarlyStopping) -> Stopping {
    Stopping {
        best_epoch: from.best_epoch.0,
        best_valid_accuracy: from.best_valid_accuracy,
        wait: from.wait,
    }
}

fn doing(from: &Progress) -> Doing {
    Doing {
        phase: match from.phase {
            Phase::Preparing => "preparing",
            Phase::Training => "training",
            Phase::Validating => "validating",
            Phase::Evaluating => "evaluating",
            Phase::Uploading => "uploading",
        },
        epoch: from.epoch.0,
        epochs: from.epochs,
        step: from.step,
        steps: from.steps,
        images_per_second: from.images_per_second,
        input_wait: from.input_wait,
        loss: from.loss,
        accuracy: from.accuracy,
    }
}

fn evaluation(from: &snapshot::EvaluationStatus) -> Evaluation<'_> {
    Evaluation {
        state: from.state.as_str(),
        attempt: from.attempt.0,
        worker: from.worker.as_deref(),
        progress: from.progress.as_ref().map(doing),
        stalled_seconds: from.stalled.map(|stalled| stalled.as_secs_f64()),
        awaited_seconds: from.awaited.map(|awaited| awaited.as_secs_f64()),
        reason: from.reason.as_deref(),
        missing: Vec::new(),
        splits: from.splits.iter().map(split).collect(),
    }
}

fn split(from: &snapshot::SplitAccuracy) -> Split<'_> {
    Split {
        split: &from.split,
        images: from.images,
        accuracy: from.accuracy,
    }
}

fn worker(from: &snapshot::WorkerStatus) -> Worker<'_> {
    Worker {
        id: from.id.as_str(),
        name: &from.name,
        device: &from.device,
        state: from.state.as_str(),
        connected: from.connected,
        task: from.task.as_ref().map(|task| match task {
            Task::Train(run) => Work::Train { run: run.as_str() },
            Task::Evaluate => Work::Evaluate,
        }),
        since_heartbeat_seconds: from.since_heartbeat.as_secs_f64(),
        gpu: from.gpu,
        stays: from.stays,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::sample;

    #[test]
    fn a_line_is_one_object_with_all_fields() {
        let pretty = pretty(&sample::training());
        insta::assert_snapshot!(pretty);
        let compact: String = pretty.lines().map(str::trim_start).collect();
        assert_eq!(line(&sample::training()), compact.replace("\": ", "\":"));
    }

    #[test]
    fn the_pretty_form_says_the_same() {
        for snapshot in sample::all() {
            let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(parse(&pretty(&snapshot)), parse(&line(&snapshot)));
            assert!(!line(&snapshot).contains('\n'));
        }
    }
}
