//! One experiment: for people, as JSON, and its epochs as a table.

use quartet_history::{AttemptSummary, EpochSummary, ExperimentRecord, RunRecord, Standing};
use quartet_shared::blob::BlobRef;
use quartet_shared::clock::Timestamp;
use quartet_shared::event::{AttemptEnd, Event, resumed_after};
use quartet_shared::human;
use quartet_shared::ids::{ExperimentName, Revision};
use quartet_shared::label::one_line;
use quartet_shared::outcome::Outcome;
use quartet_shared::report::EvaluationReport;
use quartet_shared::spec::ExperimentSpec;
use serde::Serialize;

use super::table::{Cell, Heading, Table};

/// Attempts that people are shown, the last ones.
const LAST_ATTEMPTS: usize = 20;

/// Headline, runs, the ensemble, attempts that ended without a result, and what cannot be read.
pub(super) fn text(record: &ExperimentRecord, now: Timestamp, width: u16) -> String {
    let mut parts = vec![
        headline(record, now) + &remarks(record),
        runs(record).to_text(width),
    ];
    parts.push(best_weights(record));
    if let Some(report) = &record.report {
        let accuracies = report.splits.iter().map(|split| {
            let accuracy = human::percentage(split.ensemble.accuracy);
            format!("{} {accuracy} of {} images", split.split, split.images)
        });
        let accuracies = accuracies.collect::<Vec<_>>().join(", ");
        let missing = match &record.missing()[..] {
            "" => String::new(),
            missing => format!(" without {missing}"),
        };
        parts.push(format!("ensemble accuracy{missing}: {accuracies}\n"));
    }
    let failures = record.failures();
    let failures = failures.map(|(task, reason)| format!("{task} failed: {}\n", one_line(reason)));
    parts.push(failures.collect());
    let ended = ended_attempts(record);
    if !ended.rows.is_empty() {
        parts.push(format!(
            "Attempts without a result:\n{}",
            ended.to_text(width)
        ));
    }
    let unreadable = record.unreadable.iter();
    parts.push(
        unreadable
            .map(|reason| format!("missing here: {}\n", one_line(reason)))
            .collect(),
    );
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

/// `experiment fer2013: finished, 4 of 4 runs trained; began 2026-11-26 21:18 UTC, took 3 h 20 min`.
fn headline(record: &ExperimentRecord, now: Timestamp) -> String {
    let trained = record
        .runs
        .iter()
        .filter(|run| run.outcome.is_some())
        .count();
    let standing = record.standing();
    let mut line = format!(
        "experiment {}: {}, {trained} of {} runs trained",
        record.spec.experiment.name,
        standing.as_str(),
        record.runs.len()
    );
    if let Some(began) = record.began_at() {
        line += &format!("; began {} UTC", began.minute());
    }
    match (standing, record.took(), record.last_sign()) {
        (Standing::Finished | Standing::Failed, Some(took), _) => {
            line += &format!(", took {}", human::duration(took));
        }
        (_, _, Some(last)) => {
            line += &format!(", last sign {} ago", human::duration(now.since(last)));
        }
        _ => {}
    }
    line + "\n"
}

/// What the owner says of it.
fn remarks(record: &ExperimentRecord) -> String {
    let note = record
        .spec
        .note
        .iter()
        .map(|note| format!("note: {}\n", one_line(note)));
    let tags = record.spec.tags.join(", ");
    let tags = (!tags.is_empty()).then(|| format!("tags: {}\n", one_line(&tags)));
    let revised = record.spec.revised.iter().flat_map(|revised| {
        let changes = revised.changes.iter();
        changes.map(|change| format!("revision {}: {}\n", revised.revision, one_line(change)))
    });
    let data = record.spec.data_origin.iter();
    let data = data.map(|origin| format!("data: {}\n", one_line(origin)));
    let fork = record.spec.forked_from.iter();
    let fork = fork.map(|of| format!("fork of {of}\n"));
    note.chain(tags)
        .chain(data)
        .chain(fork)
        .chain(revised)
        .collect()
}

fn runs(record: &ExperimentRecord) -> Table {
    Table {
        columns: vec![
            Heading::text("run", "run", 0),
            Heading::text("state", "state", 0),
            Heading::number("attempt", "attempts", 5),
            Heading::text("worker", "last worker", 4),
            Heading::number("epoch", "epoch", 0),
            Heading::number("valid_loss", "valid loss", 2),
            Heading::number("valid_accuracy", "valid acc", 1),
            Heading::number("best", "best (epoch)", 0),
            Heading::number("img/s", "img/s", 6),
            Heading::number("trained_seconds", "trained for", 3),
        ],
        rows: record.runs.iter().map(run_row).collect(),
    }
}

fn run_row(run: &RunRecord) -> Vec<Cell> {
    let last = run.epochs.last();
    let metrics = last.map(|epoch| epoch.metrics);
    let best = run.best().map(|best| {
        let accuracy = human::percentage(best.best_valid_accuracy);
        format!("{accuracy} ({})", best.best_epoch)
    });
    let committed = last.map_or(0, |epoch| epoch.epoch.0);
    let worker = run.attempts.last().map(|attempt| &attempt.worker[..]);
    vec![
        Cell::text(run.spec.name.as_str()),
        Cell::text(run.state_name()),
        Cell::count(run.attempts.len() as u64),
        worker.map_or_else(Cell::absent, Cell::text),
        Cell::count(committed),
        Cell::number(metrics.map(|m| m.valid_loss), 3),
        Cell::fraction(metrics.map(|m| m.valid_accuracy)),
        best.map_or_else(Cell::absent, |best| Cell::text(&best)),
        Cell::number(run.images_per_second(), 1),
        Cell::duration(last.map(|_| run.trained_for())),
    ]
}

/// The weights of the best epoch of each run, a line each, as keys of the store.
fn best_weights(record: &ExperimentRecord) -> String {
    let lines = record.runs.iter().filter_map(|run| {
        let best = run.best_epoch()?;
        Some(format!(
            "best weights of {}: {}\n",
            run.spec.name, best.weights.key
        ))
    });
    lines.collect()
}

fn ended_attempts(record: &ExperimentRecord) -> Table {
    let of_run = |run: &RunRecord| {
        let attempts = run.attempts.iter();
        let rows = attempts.filter_map(|attempt| ended_row(run.spec.name.as_str(), attempt));
        rows.collect::<Vec<_>>()
    };
    let runs = record.runs.iter().flat_map(of_run);
    let evaluation = record.evaluation_attempts.iter();
    let evaluation = evaluation.filter_map(|attempt| ended_row("evaluation", attempt));
    let mut rows: Vec<_> = runs.chain(evaluation).collect();
    rows.sort_by_key(|(at, _)| *at);
    let skipped = rows.len().saturating_sub(LAST_ATTEMPTS);
    Table {
        columns: vec![
            Heading::text("ended_at", "ended (UTC)", 2),
            Heading::text("task", "run", 0),
            Heading::number("attempt", "attempt", 0),
            Heading::text("worker", "worker", 3),
            Heading::text("resume", "had gone on", 4),
            Heading::text("reason", "why it ended", 0),
        ],
        rows: rows.into_iter().skip(skipped).map(|(_, row)| row).collect(),
    }
}

fn ended_row(task: &str, attempt: &AttemptSummary) -> Option<(Timestamp, Vec<Cell>)> {
    let result = attempt.result.as_ref()?;
    let how = match result.how? {
        // The reason names the worker, and says that it was lost.
        AttemptEnd::Lost if result.reason.is_some() => "",
        AttemptEnd::Lost => "its worker was lost",
        AttemptEnd::Failed => "failed: ",
        AttemptEnd::Rejected => "cannot be done: ",
        AttemptEnd::HandedBack => "handed back",
    };
    let why = format!("{how}{}", result.reason.as_deref().unwrap_or_default());
    let row = vec![
        Cell::time(Some(result.at)),
        Cell::text(task),
        Cell::count(attempt.attempt.0),
        Cell::text(&attempt.worker),
        resumed_after(attempt.resume).map_or_else(Cell::absent, |after| Cell::text(&after)),
        Cell::text(&why),
    ];
    Some((result.at, row))
}

/// A row for each epoch of each run.
pub(super) fn epochs(record: &ExperimentRecord) -> Table {
    let rows = record.runs.iter().flat_map(|run| {
        let name = run.spec.name.as_str();
        run.epochs.iter().map(|epoch| {
            let metrics = epoch.metrics;
            vec![
                Cell::text(name),
                Cell::count(epoch.epoch.0),
                Cell::count(epoch.attempt.0),
                Cell::time(epoch.committed_at),
                Cell::number(Some(metrics.train_loss), 4),
                Cell::fraction(Some(metrics.train_accuracy)),
                Cell::number(Some(metrics.valid_loss), 4),
                Cell::fraction(Some(metrics.valid_accuracy)),
                Cell::number(Some(metrics.images_per_second), 1),
                Cell::number(Some(metrics.seconds), 1),
            ]
        })
    });
    let number = |key: &str| Heading::number(key, key, 0);
    Table {
        columns: vec![
            Heading::text("run", "run", 0),
            number("epoch"),
            number("attempt"),
            Heading::text("committed_at", "committed_at", 0),
            number("train_loss"),
            number("train_accuracy"),
            number("valid_loss"),
            number("valid_accuracy"),
            number("images_per_second"),
            number("seconds"),
        ],
        rows: rows.collect(),
    }
}

#[derive(Serialize)]
struct Json<'a> {
    experiment: &'a str,
    state: Standing,
    began_at: Option<Timestamp>,
    last_sign: Option<Timestamp>,
    took_seconds: Option<f64>,
    note: Option<&'a str>,
    tags: &'a [String],
    forked_from: Option<&'a ExperimentName>,
    revision: Revision,
    changes: &'a [String],
    dataset: &'a BlobRef,
    data_origin: Option<&'a str>,
    runs: Vec<JsonRun<'a>>,
    evaluation: JsonEvaluation<'a>,
    spec: &'a ExperimentSpec,
    events: &'a [Event],
    unreadable: &'a [String],
}

#[derive(Serialize)]
struct JsonRun<'a> {
    name: &'a str,
    backbone: String,
    state: &'static str,
    failure: Option<&'a str>,
    outcome: Option<Outcome>,
    best_weights: Option<&'a BlobRef>,
    images_per_second: Option<f64>,
    trained_seconds: f64,
    epochs: &'a [EpochSummary],
    attempts: &'a [AttemptSummary],
}

impl<'a> From<&'a RunRecord> for JsonRun<'a> {
    fn from(run: &'a RunRecord) -> Self {
        Self {
            name: run.spec.name.as_str(),
            backbone: run.spec.backbone.to_string(),
            state: run.state().as_str(),
            failure: run.failure.as_deref(),
            outcome: run.outcome,
            best_weights: run.best_epoch().map(|best| &best.weights),
            images_per_second: run.images_per_second(),
            trained_seconds: run.trained_for().as_secs_f64(),
            epochs: &run.epochs,
            attempts: &run.attempts,
        }
    }
}

#[derive(Serialize)]
struct JsonEvaluation<'a> {
    failure: Option<&'a str>,
    attempts: &'a [AttemptSummary],
    report: Option<&'a EvaluationReport>,
}

/// All of it. The names and meanings of the fields are stable: fields may be added, none changes.
pub(super) fn json(record: &ExperimentRecord) -> String {
    let json = Json {
        experiment: record.spec.experiment.name.as_str(),
        state: record.standing(),
        began_at: record.began_at(),
        last_sign: record.last_sign(),
        took_seconds: record.took().map(|took| took.as_secs_f64()),
        note: record.spec.note.as_deref(),
        tags: &record.spec.tags,
        forked_from: record.spec.forked_from.as_ref(),
        revision: record.spec.revision(),
        changes: record
            .spec
            .revised
            .as_ref()
            .map_or(&[], |revised| &revised.changes),
        dataset: &record.spec.dataset,
        data_origin: record.spec.data_origin.as_deref(),
        runs: record.runs.iter().map(JsonRun::from).collect(),
        evaluation: JsonEvaluation {
            failure: record.evaluation_failure.as_deref(),
            attempts: &record.evaluation_attempts,
            report: record.report.as_ref(),
        },
        spec: &record.spec.experiment,
        events: &record.events,
        unreadable: &record.unreadable,
    };
    serde_json::to_string_pretty(&json).expect("maps have only text keys") + "\n"
}
