//! What one sees first: the title, the ensemble's accuracy, the runs.

use std::collections::BTreeSet;
use std::time::Duration;

use quartet_history::{ExperimentRecord, RunRecord, Standing};
use quartet_shared::human;
use quartet_shared::label::{MAX_REASON, one_line};
use quartet_shared::outcome::StopReason;
use quartet_shared::report::EVALUATED;

use crate::text::{clean, count, percent, percentage, plural, reason};

/// The head of the page.
pub(super) struct Overview {
    pub(super) name: String,
    pub(super) standing: &'static str,
    /// What the standing means.
    pub(super) meaning: String,
    /// Tasks that have failed, and why.
    pub(super) failures: Vec<(String, String)>,
    /// Names and values.
    pub(super) facts: Vec<(&'static str, String)>,
}

/// A number in big figures.
pub(super) struct Headline {
    pub(super) label: String,
    pub(super) value: String,
    pub(super) note: String,
}

/// A row of the table of runs.
pub(super) struct RunRow {
    pub(super) name: String,
    pub(super) backbone: &'static str,
    pub(super) state: &'static str,
    pub(super) epochs: String,
    pub(super) best_accuracy: String,
    pub(super) best_epoch: String,
    pub(super) loss: String,
    pub(super) time: String,
    pub(super) speed: String,
    pub(super) attempts: String,
    pub(super) workers: String,
}

pub(super) fn overview(record: &ExperimentRecord) -> Overview {
    let failures = record.failures().map(|(task, why)| (task, reason(why)));
    Overview {
        name: record.spec.experiment.name.to_string(),
        standing: record.standing().as_str(),
        meaning: meaning(record),
        failures: failures.collect(),
        facts: facts(record),
    }
}

fn meaning(record: &ExperimentRecord) -> String {
    let runs = &record.runs;
    let trained = runs.iter().filter(|run| run.outcome.is_some()).count();
    let of_all = format!(
        "{} of {} trained",
        trained,
        plural(runs.len() as u64, "run")
    );
    let rest = match record.standing() {
        Standing::Finished => "the ensemble is evaluated",
        Standing::Failed if trained == runs.len() => "the evaluation of the ensemble has failed",
        Standing::Failed if record.report.is_some() => "the ensemble is of those",
        Standing::Failed => "there is no ensemble",
        Standing::Stopped => "the coordinator has stopped and can be started again",
        Standing::Unfinished => "the coordinator is at work or was killed",
    };
    format!("{of_all}; {rest}")
}

fn facts(record: &ExperimentRecord) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(note) = &record.spec.note {
        facts.push(("note", clean(note, MAX_REASON)));
    }
    if !record.spec.tags.is_empty() {
        facts.push(("tags", clean(&record.spec.tags.join(", "), MAX_REASON)));
    }
    if let Some(began) = record.began_at() {
        facts.push(("began", format!("{} UTC", began.minute())));
    }
    if let Some(last) = record.last_sign() {
        let label = if record.standing() == Standing::Finished {
            "ended"
        } else {
            "last sign"
        };
        facts.push((label, format!("{} UTC", last.minute())));
    }
    if let Some(took) = record.took() {
        facts.push(("took", human::duration(took)));
    }
    if let [first, others @ ..] = &record.unreadable[..] {
        let more = match others.len() {
            0 => String::new(),
            n => format!("; and {}", plural(n as u64, "other")),
        };
        let first = reason(first);
        facts.push(("missing here", format!("{first}{more}")));
    }
    let dataset = &record.spec.dataset.blob;
    let checksum = dataset.sha256.to_string();
    if let Some(origin) = &record.spec.data_origin {
        facts.push(("data from", one_line(origin).into_owned()));
    }
    facts.push((
        "data",
        format!(
            "{}, SHA-256 {}…",
            human::size(dataset.size),
            &checksum[..12]
        ),
    ));
    if let Some(report) = &record.report {
        let images = report.splits.iter();
        let images: Vec<String> = images
            .map(|split| format!("{} {}", count(split.images), split.split))
            .collect();
        facts.push(("images evaluated", images.join(", ")));
        facts.push(("classes", count(report.classes.len() as u64)));
    }
    let spec = &record.spec.experiment;
    let schedule = format!(
        "batches of {}, at most {}, patience {}, {}",
        spec.batch_size,
        plural(spec.epochs.into(), "epoch"),
        spec.patience,
        spec.precision
    );
    facts.push(("schedule", schedule));
    let trained: Duration = record.runs.iter().map(RunRecord::trained_for).sum();
    if !trained.is_zero() {
        facts.push(("trained, all runs", human::duration(trained)));
    }
    facts
}

/// The ensemble's accuracy on the splits, or the best run while there is no ensemble.
pub(super) fn headlines(record: &ExperimentRecord) -> Vec<Headline> {
    let mut headlines = Vec::new();
    for split in EVALUATED {
        let Some(accuracy) = record.ensemble_accuracy(split) else {
            continue;
        };
        let reports = record.report.iter().flat_map(|report| &report.splits);
        let images = reports
            .filter(|report| report.split == split)
            .map(|report| report.images)
            .sum();
        headlines.push(Headline {
            label: format!("ensemble accuracy, {split}"),
            value: percentage(accuracy),
            note: plural(images, "image"),
        });
    }
    if let Some((run, best)) = record.best_run().and_then(|run| Some((run, run.best()?))) {
        headlines.push(Headline {
            label: "best run, valid".to_owned(),
            value: percentage(best.best_valid_accuracy),
            note: format!("{}, epoch {}", run.spec.name, best.best_epoch),
        });
    }
    headlines
}

pub(super) fn run(run: &RunRecord) -> RunRow {
    let best = run.best();
    let at_best = best.and_then(|best| {
        run.epochs
            .iter()
            .find(|epoch| epoch.epoch == best.best_epoch)
    });
    let workers: BTreeSet<&str> = run
        .attempts
        .iter()
        .map(|attempt| &attempt.worker[..])
        .collect();
    let none = || "–".to_owned();
    RunRow {
        name: run.spec.name.to_string(),
        backbone: run.spec.backbone.facts().title,
        state: run.state_name(),
        epochs: epochs(run),
        best_accuracy: best.map_or_else(none, |best| percent(best.best_valid_accuracy)),
        best_epoch: best.map_or_else(none, |best| best.best_epoch.to_string()),
        loss: at_best.map_or_else(none, |epoch| crate::text::loss(epoch.metrics.valid_loss)),
        time: if run.epochs.is_empty() {
            none()
        } else {
            human::duration(run.trained_for())
        },
        speed: run
            .images_per_second()
            .map_or_else(none, |speed| human::rate(speed).replace(" img/s", "")),
        attempts: run.attempts.len().to_string(),
        workers: workers.len().to_string(),
    }
}

fn epochs(run: &RunRecord) -> String {
    let done = run.epochs.last().map_or(0, |epoch| epoch.epoch.0);
    match run.outcome.map(|outcome| outcome.stop_reason) {
        Some(StopReason::EarlyStopping) => format!("{done}, stopped early"),
        Some(StopReason::Epochs) => format!("{done}, all"),
        None => done.to_string(),
    }
}
