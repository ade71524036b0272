//! A coordinator's page: the experiment and the fleet, live in a browser.
//!
//! Pure functions from data to HTML. [`document`] is the whole page as it is at the moment; each of its parts
//! (the type [`Part`]) is sent again when it has changed, and [`SCRIPT`] puts it in the place of the old one.
//!
//! - `fleet`: progress of the runs, and the workers
//! - `past`: curves, results and what has happened

mod fleet;
mod past;
#[cfg(test)]
mod tests;

use askama::Template;
use quartet_history::ExperimentRecord;
use quartet_status::queue::QueueEntry;
use quartet_status::snapshot::Snapshot;

/// The script of the page: takes parts as they come, and connects again by itself.
pub const SCRIPT: &str = include_str!("../templates/page.js");

/// The style sheet of the page.
#[must_use]
pub fn style() -> String {
    format!(
        "{}\n{}",
        quartet_report::style(),
        include_str!("../templates/page.css")
    )
}

/// A part of the page that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Headline, runs, workers: changes with every heartbeat.
    Fleet,
    /// Curves and results: changes with every epoch.
    Results,
    /// What has happened.
    Events,
}

impl Part {
    /// All of them, in the order of the page.
    pub const ALL: [Self; 3] = [Self::Fleet, Self::Results, Self::Events];

    /// The id of its element, and the name of the event that brings it.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Results => "results",
            Self::Events => "events",
        }
    }

    /// It as HTML. `record` is absent as long as it is being read from the store.
    #[must_use]
    pub fn html(self, snapshot: &Snapshot, record: Option<&ExperimentRecord>) -> String {
        match (self, record) {
            (Self::Fleet, record) => fleet::html(snapshot, record),
            (Self::Results, Some(record)) => past::results(record),
            (Self::Events, Some(record)) => past::events(record),
            (_, None) => "<p class=\"note\">being read from the store</p>".to_owned(),
        }
    }
}

#[derive(Template)]
#[template(path = "document.html")]
struct Document<'a> {
    title: &'a str,
    queue: String,
    parts: Vec<(&'static str, String)>,
    version: &'static str,
}

#[derive(Template)]
#[template(path = "queue.html")]
struct Queue<'a> {
    entries: &'a [QueueEntry],
}

#[derive(Template)]
#[template(path = "idle.html")]
struct Idle {
    queue: String,
    version: &'static str,
}

/// The whole page, which can be read without its script. `queue` has what else waits or is trained, and the
/// experiment itself; it is empty where there is but one.
#[must_use]
pub fn document(
    snapshot: &Snapshot,
    record: Option<&ExperimentRecord>,
    queue: &[QueueEntry],
) -> String {
    let document = Document {
        title: snapshot.experiment.as_str(),
        queue: match queue {
            [] | [_] => String::new(),
            entries => rendered(&Queue { entries }),
        },
        parts: Part::ALL
            .map(|part| (part.id(), part.html(snapshot, record)))
            .into(),
        version: env!("CARGO_PKG_VERSION"),
    };
    rendered(&document)
}

/// The page of a coordinator that trains nothing now, with what waits.
#[must_use]
pub fn idle(queue: &[QueueEntry]) -> String {
    rendered(&Idle {
        queue: rendered(&Queue { entries: queue }),
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Text of a template. Writing to a string cannot fail.
fn rendered(template: &impl Template) -> String {
    template.render().unwrap_or_default()
}
