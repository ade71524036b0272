//! Progress of the runs, and the workers.

use askama::Template;
use quartet_history::ExperimentRecord;
use quartet_shared::human;
use quartet_shared::ids::RunName;
use quartet_shared::label::{one_line, shortened};
use quartet_shared::progress::Phase;
use quartet_status::render;
use quartet_status::snapshot::{RunStatus, Snapshot, TaskState, WorkerState, WorkerStatus};

use crate::rendered;

/// Workers that are shown; of a fleet of thousands nobody reads each.
const MOST_WORKERS: usize = 50;
/// Characters of a worker's name or device.
const LONGEST_NAME: usize = 40;

#[derive(Template)]
#[template(path = "fleet.html")]
struct Fleet {
    kind: String,
    name: String,
    about: String,
    state: &'static str,
    summary: String,
    notes: Vec<String>,
    runs: Vec<RunRow>,
    workers: Vec<WorkerRow>,
    more_workers: usize,
}

struct RunRow {
    name: String,
    state: &'static str,
    state_class: &'static str,
    worker: String,
    epoch: String,
    done: f64,
    done_percent: String,
    speed: String,
    valid_loss: String,
    valid_accuracy: String,
    best: String,
    eta: String,
}

struct WorkerRow {
    name: String,
    state: &'static str,
    state_class: &'static str,
    task: String,
    device: String,
    gpu: String,
    heard: String,
}

/// Headline, runs and workers.
pub(crate) fn html(snapshot: &Snapshot, record: Option<&ExperimentRecord>) -> String {
    let mut workers: Vec<_> = snapshot.workers.iter().collect();
    // Those that work first.
    workers.sort_by_key(|worker| (worker.state == WorkerState::Lost, worker.task.is_none()));
    let more_workers = workers.len().saturating_sub(MOST_WORKERS);
    rendered(&Fleet {
        kind: match snapshot.revision.is_first() {
            true => "experiment".to_owned(),
            false => format!("experiment, revision {}", snapshot.revision),
        },
        name: snapshot.experiment.to_string(),
        about: record.map_or_else(String::new, about),
        state: snapshot.state.as_str(),
        summary: summary(snapshot),
        notes: notes(snapshot),
        runs: snapshot.runs.iter().map(run).collect(),
        workers: workers.into_iter().take(MOST_WORKERS).map(worker).collect(),
        more_workers,
    })
}

/// The note and the tags of whoever created the experiment.
fn about(record: &ExperimentRecord) -> String {
    let tags = record.spec.tags.iter().map(|tag| format!("#{tag}"));
    let parts: Vec<String> = record.spec.note.iter().cloned().chain(tags).collect();
    one_line(&parts.join(" ")).into_owned()
}

/// `2 of 4 runs finished · 3 of 4 workers · 20 min left · up 1 h 05 min`.
fn summary(snapshot: &Snapshot) -> String {
    let finished = snapshot
        .runs
        .iter()
        .filter(|run| run.state == TaskState::Finished);
    let present = snapshot.workers_present();
    let expected = snapshot.workers_expected as usize;
    let mut parts = vec![
        format!(
            "{} of {} runs finished",
            finished.count(),
            snapshot.runs.len()
        ),
        format!("{} of {expected} workers", present.min(expected)),
    ];
    if present > expected {
        parts.push(format!("{} spare", present - expected));
    }
    if let Some(left) = snapshot.eta {
        parts.push(format!("{} left", render::eta(left)));
    }
    parts.push(format!("up {}", human::duration(snapshot.uptime)));
    parts.join(" · ")
}

/// What somebody should look at.
fn notes(snapshot: &Snapshot) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(trouble) = &snapshot.store_trouble {
        let since = human::duration(trouble.since);
        notes.push(format!(
            "The store has failed for {since}: {}",
            one_line(&trouble.reason)
        ));
    }
    for run in &snapshot.runs {
        let reason = one_line(run.reason.as_deref().unwrap_or("the reason is not known"));
        match run.state {
            TaskState::Failed => notes.push(format!("{} failed: {reason}", run.name)),
            TaskState::Pending if run.reason.is_some() => {
                notes.push(format!("{} waits for a worker again: {reason}", run.name));
            }
            _ => {}
        }
        if let Some(stalled) = run.stalled {
            let stalled = human::duration(stalled);
            notes.push(format!("{} has made no progress for {stalled}", run.name));
        }
    }
    let missing: Vec<_> = snapshot
        .missing()
        .into_iter()
        .map(RunName::as_str)
        .collect();
    if !missing.is_empty() {
        notes.push(format!("The ensemble lacks {}.", missing.join(", ")));
    }
    let evaluation = &snapshot.evaluation;
    if evaluation.state == TaskState::Failed {
        let reason = one_line(
            evaluation
                .reason
                .as_deref()
                .unwrap_or("the reason is not known"),
        );
        notes.push(format!("The evaluation failed: {reason}"));
    }
    if snapshot.insecure {
        notes.push(
            "No keys are used: whoever reaches the coordinator may do everything.".to_owned(),
        );
    }
    notes
}

fn run(run: &RunStatus) -> RunRow {
    let metrics = run.metrics;
    let is_live = run.state == TaskState::Leased && run.awaited.is_none();
    let done = done(run);
    RunRow {
        name: run.name.to_string(),
        state: render::run_state(run),
        state_class: run.state.as_str(),
        worker: name(run.worker.as_deref().unwrap_or_default()),
        epoch: format!("{}/{}", run.epochs_committed, run.epochs),
        done,
        done_percent: format!("{:.0}", done * 100.0),
        speed: run
            .progress
            .filter(|progress| is_live && progress.images_per_second > 0.0)
            .map_or_else(String::new, |progress| {
                format!("{:.1}", progress.images_per_second)
            }),
        valid_loss: metrics.map_or_else(String::new, |m| format!("{:.3}", m.valid_loss)),
        valid_accuracy: metrics.map_or_else(String::new, |m| human::percentage(m.valid_accuracy)),
        best: run.early_stopping.map_or_else(String::new, |best| {
            let accuracy = human::percentage(best.best_valid_accuracy);
            format!("{accuracy} ({})", best.best_epoch)
        }),
        eta: run
            .eta
            .filter(|_| is_live)
            .map_or_else(String::new, render::eta),
    }
}

/// The fraction of the epochs that is done. A run that stopped early is done.
fn done(run: &RunStatus) -> f64 {
    if run.state == TaskState::Finished || run.epochs == 0 {
        return 1.0;
    }
    let within = run.progress.filter(|progress| {
        run.state == TaskState::Leased
            && progress.phase == Phase::Training
            && progress.epoch.0 == run.epochs_committed + 1
            && progress.steps > 0
    });
    let within = within.map_or(0.0, |p| f64::from(p.step) / f64::from(p.steps));
    let done = (f64::from(run.epochs_committed) + within) / f64::from(run.epochs);
    // As much as one can see: what is sent again must have changed.
    (done.clamp(0.0, 1.0) * 1000.0).round() / 1000.0
}

fn worker(worker: &WorkerStatus) -> WorkerRow {
    WorkerRow {
        name: name(&worker.name),
        state: render::worker_state(worker),
        state_class: worker.state.as_str(),
        task: worker
            .task
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        device: name(&worker.device),
        gpu: worker.gpu.map_or_else(String::new, render::gpu),
        heard: match worker.since_heartbeat.as_secs() {
            // Those that are well do not change with every second.
            0..5 => "now".to_owned(),
            _ => format!("{} ago", human::duration(worker.since_heartbeat)),
        },
    }
}

fn name(text: &str) -> String {
    shortened(&one_line(text), LONGEST_NAME)
}
