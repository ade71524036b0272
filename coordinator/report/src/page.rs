//! The report as a page. The modules below make views, plain text that the templates lay out and escape.

mod citation;
mod evaluation;
mod history;
mod overview;

use askama::Template;
use quartet_history::ExperimentRecord;
use quartet_shared::clock::Timestamp;

use crate::figures::{self, Figure, Scales};
use crate::predictions::{Predictions, class_names};

use citation::Citation;
use evaluation::{PredictionView, SplitView};
use history::{EventRow, TaskRow};
use overview::{Headline, Overview, RunRow};

#[derive(Template)]
#[template(path = "style.css", escape = "none")]
struct Style {
    dark: Vec<(String, &'static str)>,
}

/// The report's style sheet, which its figures need to be seen on dark paper.
#[must_use]
pub fn style() -> String {
    let dark = figures::dark().collect();
    Style { dark }.render().unwrap_or_default()
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    overview: Overview,
    headlines: Vec<Headline>,
    runs: Vec<RunRow>,
    accuracy: Figure,
    loss: Figure,
    caption: String,
    curves: Vec<Figure>,
    is_loss_cut: bool,
    splits: Vec<SplitView>,
    predictions: Vec<PredictionView>,
    /// What is wrong with predictions that are not shown.
    refused: Vec<String>,
    tasks: Vec<TaskRow>,
    events: Vec<EventRow>,
    earlier_events: String,
    citation: Citation,
    /// Colours of the figures, and theirs on dark paper.
    dark: Vec<(String, &'static str)>,
    now: String,
    version: &'static str,
}

/// The report of an experiment as one HTML file: no script, nothing to fetch. `now` is the time that it says
/// it was written at. Predictions are optional; those that do not fit the evaluation's classes are named and
/// left out.
#[must_use]
pub fn html(record: &ExperimentRecord, predictions: &[Predictions], now: Timestamp) -> String {
    let scales = Scales::of(&record.runs);
    let classes = class_names(record.report.as_ref(), predictions);
    let checked = predictions
        .iter()
        .map(|predictions| (predictions, predictions.check(classes.len())));
    let (valid, refused): (Vec<_>, Vec<_>) = checked.partition(|(_, checked)| checked.is_ok());
    let trained = record.runs.iter().filter(|run| !run.epochs.is_empty());
    let (events, earlier) = history::events(&record.events);
    let page = Page {
        overview: overview::overview(record),
        headlines: overview::headlines(record),
        runs: record.runs.iter().map(overview::run).collect(),
        accuracy: figures::accuracy(&record.runs, &scales),
        loss: figures::loss(&record.runs, &scales),
        caption: figures::caption(&record.runs),
        curves: trained.map(|run| figures::curve(run, &scales)).collect(),
        is_loss_cut: scales.is_loss_cut,
        splits: evaluation::splits(record),
        predictions: valid
            .iter()
            .map(|(valid, _)| evaluation::predictions(valid, &classes))
            .collect(),
        refused: refused
            .iter()
            .filter_map(|(_, checked)| Some(checked.as_ref().err()?.to_string()))
            .collect(),
        tasks: history::tasks(record),
        events,
        earlier_events: earlier,
        citation: citation::citation(record),
        dark: figures::dark().collect(),
        now: history::second(now),
        version: env!("CARGO_PKG_VERSION"),
    };
    page.render().expect("a string takes every text")
}
