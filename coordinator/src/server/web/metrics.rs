//! Metrics for Prometheus, named by its rules: base units, `_total` for counters, `_ratio` for fractions
//! of 1. What may go back, as a rollback has it, is a gauge.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use quartet_shared::label::one_line;
use quartet_status::snapshot::{
    ExperimentState, RunStatus, Snapshot, TaskState, WorkerState, WorkerStatus,
};

use crate::server::counters::Counters;

/// The format that is written.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where there is nothing to tell of.
pub(super) const NOTHING: &str = "# EOF\n";

/// A gauge of any number.
type Number = Gauge<f64, AtomicU64>;

/// Workers whose GPUs are shown: each makes four series.
const MOST_WORKERS: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Run {
    run: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Worker {
    worker: String,
}

/// The state now and what this process has counted, as text.
pub(super) fn render(snapshot: &Snapshot, counters: &Counters) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("quartet");
    let info = Info::new(vec![
        ("experiment", snapshot.experiment.to_string()),
        ("term", snapshot.term.to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    registry.register("experiment", "The experiment and its coordinator", info);
    let uptime = Number::default();
    uptime.set(snapshot.uptime.as_secs_f64());
    let help = "Time since this coordinator started";
    registry.register_with_unit("uptime", help, Unit::Seconds, uptime);
    let trouble = Number::default();
    trouble.set(f64::from(u8::from(snapshot.store_trouble.is_some())));
    registry.register("store_failing", "1 while the store fails, else 0", trouble);
    let missing = Number::default();
    missing.set(snapshot.missing().len() as f64);
    let help = "Runs that failed for good, without which the ensemble is evaluated";
    registry.register("ensemble_missing_runs", help, missing);
    let expected = Number::default();
    expected.set(f64::from(snapshot.workers_expected));
    registry.register(
        "workers_expected",
        "Workers that the fleet should have",
        expected,
    );
    states(&mut registry, snapshot);
    runs(&mut registry, &snapshot.runs);
    workers(&mut registry, &snapshot.workers);
    let mut text = String::new();
    encode_registry(&mut text, &registry)?;
    encode_registry(&mut text, counters.registry())?;
    encode_eof(&mut text)?;
    Ok(text)
}

/// The experiment's state, and how many runs and workers are in each; states that none is in, too.
fn states(registry: &mut Registry, snapshot: &Snapshot) {
    let experiment = Family::<State, Number>::default();
    for state in [
        ExperimentState::Waiting,
        ExperimentState::Training,
        ExperimentState::Evaluating,
        ExperimentState::Finished,
        ExperimentState::Failed,
    ] {
        let is_it = f64::from(u8::from(snapshot.state == state));
        let state = state.as_str();
        experiment.get_or_create(&State { state }).set(is_it);
    }
    let help = "1 for the state that the experiment is in, else 0";
    registry.register("experiment_state", help, experiment);
    let runs = Family::<State, Number>::default();
    for state in [
        TaskState::Pending,
        TaskState::Leased,
        TaskState::Finished,
        TaskState::Failed,
    ] {
        let there = snapshot.runs.iter().filter(|run| run.state == state);
        let state = state.as_str();
        runs.get_or_create(&State { state })
            .set(there.count() as f64);
    }
    registry.register("runs", "Runs by state", runs);
    let workers = Family::<State, Number>::default();
    for state in [
        WorkerState::Idle,
        WorkerState::Busy,
        WorkerState::Draining,
        WorkerState::Lost,
        WorkerState::Quarantined,
    ] {
        let there = snapshot
            .workers
            .iter()
            .filter(|worker| worker.state == state);
        let state = state.as_str();
        workers
            .get_or_create(&State { state })
            .set(there.count() as f64);
    }
    registry.register("workers", "Workers by state", workers);
}

/// A family of what some have a value of.
fn family<T, L>(
    all: &[T],
    label: fn(&T) -> L,
    value: impl Fn(&T) -> Option<f64>,
) -> Family<L, Number>
where
    L: Clone + std::hash::Hash + Eq,
{
    let family = Family::<L, Number>::default();
    for one in all {
        if let Some(value) = value(one) {
            family.get_or_create(&label(one)).set(value);
        }
    }
    family
}

fn runs(registry: &mut Registry, runs: &[RunStatus]) {
    let label = |run: &RunStatus| Run {
        run: run.name.to_string(),
    };
    let mut add =
        |name: &str, help: &str, unit: Option<Unit>, value: fn(&RunStatus) -> Option<f64>| {
            let family = family(runs, label, value);
            match unit {
                Some(unit) => registry.register_with_unit(name, help, unit, family),
                None => registry.register(name, help, family),
            }
        };
    add(
        "run_stalled",
        "For how long a run has made no progress although its worker is heard of, if that is long",
        Some(Unit::Seconds),
        |run| Some(run.stalled.unwrap_or_default().as_secs_f64()),
    );
    let ratio = Some(Unit::Other("ratio".to_owned()));
    add("run_epochs", "Epochs that a run has at most", None, |run| {
        Some(run.epochs.into())
    });
    add(
        "run_epochs_committed",
        "Epochs of a run that are committed",
        None,
        |run| Some(run.epochs_committed.into()),
    );
    add("run_attempts", "Attempts at a run so far", None, |run| {
        Some(run.attempt.0.into())
    });
    add("run_images_per_second", "Training speed now", None, |run| {
        Some(run.progress?.images_per_second)
    });
    add(
        "run_input_wait_ratio",
        "Part of the time in which the device waits for its input",
        None,
        |run| run.progress?.input_wait,
    );
    add(
        "run_step",
        "Steps of the epoch in progress that are done",
        None,
        |run| Some(run.progress?.step.into()),
    );
    add(
        "run_train_loss",
        "Training loss of the last epoch",
        None,
        |run| Some(run.metrics?.train_loss),
    );
    add(
        "run_valid_loss",
        "Validation loss of the last epoch",
        None,
        |run| Some(run.metrics?.valid_loss),
    );
    add(
        "run_train_accuracy",
        "Training accuracy of the last epoch",
        ratio.clone(),
        |run| Some(run.metrics?.train_accuracy),
    );
    add(
        "run_valid_accuracy",
        "Validation accuracy of the last epoch",
        ratio.clone(),
        |run| Some(run.metrics?.valid_accuracy),
    );
    add(
        "run_best_valid_accuracy",
        "Validation accuracy of the best epoch",
        ratio,
        |run| Some(run.early_stopping?.best_valid_accuracy),
    );
    add(
        "run_epoch_duration",
        "Time that the last epoch took",
        Some(Unit::Seconds),
        |run| Some(run.metrics?.seconds),
    );
}

fn workers(registry: &mut Registry, workers: &[WorkerStatus]) {
    let with_gpu = workers
        .iter()
        .filter(|worker| worker.connected && worker.gpu.is_some());
    let with_gpu: Vec<WorkerStatus> = with_gpu.take(MOST_WORKERS).cloned().collect();
    let label = |worker: &WorkerStatus| Worker {
        worker: one_line(&worker.name).into_owned(),
    };
    let mut add = |name: &str, help: &str, unit: Unit, value: fn(&WorkerStatus) -> Option<f64>| {
        registry.register_with_unit(name, help, unit, family(&with_gpu, label, value));
    };
    add(
        "gpu_busy",
        "Time in which a worker's GPU computed, lately",
        Unit::Other("ratio".to_owned()),
        |worker| Some(f64::from(worker.gpu?.busy_percent?) / 100.0),
    );
    add(
        "gpu_memory_used",
        "Memory of a worker's GPU that is taken",
        Unit::Bytes,
        |worker| Some(worker.gpu?.memory_used as f64),
    );
    add(
        "gpu_memory",
        "Memory of a worker's GPU",
        Unit::Bytes,
        |worker| Some(worker.gpu?.memory_total as f64),
    );
    add(
        "gpu_temperature",
        "Temperature of a worker's GPU",
        Unit::Celsius,
        |worker| Some(worker.gpu?.temperature?.into()),
    );
}
