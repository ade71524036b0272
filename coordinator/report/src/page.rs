//! The report as a page. The modules below make views, plain text that the templates lay out and escape.

mod citation;
mod evaluation;
mod history;
mod overview;

use askama::Template;
use quartet_history::ExperimentRecord;
use quartet_shared::clock::Timestamp;

use crate::figures::{self, Figure, Scales};
use crate::findings::Findings;

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
    /// The runs that the ensemble lacks.
    missing: String,
    splits: Vec<SplitView>,
    predictions: Vec<PredictionView>,
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
/// it was written at. Findings are optional, of splits of the evaluation.
#[must_use]
pub fn html(record: &ExperimentRecord, findings: &[Findings], now: Timestamp) -> String {
    let scales = Scales::of(&record.runs);
    let classes = record.report.as_ref().map(|report| &report.classes[..]);
    let classes = classes.unwrap_or_default();
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
        missing: record.missing(),
        splits: evaluation::splits(record),
        predictions: findings
            .iter()
            .map(|findings| evaluation::predictions(findings, classes))
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
