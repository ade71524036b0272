//! Curves, results and what has happened.

use askama::Template;
use quartet_history::ExperimentRecord;
use quartet_report::Figure;
use quartet_shared::dataset::Split;
use quartet_shared::human;

use crate::rendered;

/// Events that are shown, the newest first.
const LAST_EVENTS: usize = 60;

#[derive(Template)]
#[template(path = "results.html")]
struct Results {
    results: Vec<(&'static str, String, u64)>,
    confusion: Vec<Figure>,
    accuracies: String,
    losses: String,
    curves: Vec<String>,
}

/// Curves of the runs, and the ensemble's results once it is evaluated.
pub(crate) fn results(record: &ExperimentRecord) -> String {
    let splits = record.report.iter().flat_map(|report| &report.splits);
    let results = splits.map(|split| {
        let name = match split.split {
            Split::Train => "training",
            Split::Valid => "validation",
            Split::Test => "test",
        };
        (
            name,
            human::percentage(split.ensemble.accuracy),
            split.images,
        )
    });
    let trained = record.runs.iter().filter(|run| !run.epochs.is_empty());
    let curves = trained.filter_map(|run| {
        let name = &run.spec.name;
        quartet_report::curves(&record.runs, name)
    });
    rendered(&Results {
        results: results.collect(),
        confusion: quartet_report::confusion_matrices(record),
        accuracies: quartet_report::accuracies(&record.runs),
        losses: quartet_report::losses(&record.runs),
        curves: curves.collect(),
    })
}

#[derive(Template)]
#[template(path = "events.html")]
struct Events {
    events: Vec<(String, String)>,
    earlier: usize,
}

/// What has happened, the newest first.
pub(crate) fn events(record: &ExperimentRecord) -> String {
    let events = record.events.iter().rev().take(LAST_EVENTS);
    let events = events.map(|event| {
        let time = event.at.to_string().replace('T', " ");
        (time[..19].to_owned(), quartet_report::sentence(&event.what))
    });
    rendered(&Events {
        events: events.collect(),
        earlier: record.events.len().saturating_sub(LAST_EVENTS),
    })
}
