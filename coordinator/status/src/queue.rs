//! The queue of a coordinator: what waits, what is trained and what has ended, and what people do with it.
//!
//! - `wire`: conversions from and to the protocol
//! - `submit`: data and weights on their way to the coordinator

mod submit;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::io::Write;
use std::time::Duration;

use quartet_shared::clock::Timestamp;
use quartet_shared::human;
use quartet_shared::ids::ExperimentName;
use quartet_shared::label::one_line;
use quartet_shared::state::ExperimentState;

use super::StatusError;
use super::client::Client;
use super::options::Options;
use crate::stored::Format;
use crate::stored::table::{Cell, Heading, Table};

pub use submit::{Submission, SubmitFailure, submit};

/// What was submitted, and what has become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// The experiment.
    pub experiment: ExperimentName,
    /// Where it is.
    pub state: QueueState,
    /// Those of a higher one come first.
    pub priority: i32,
    /// When it was submitted, if it was.
    pub submitted_at: Option<Timestamp>,
    /// The name of the keys that it was submitted with, if any were.
    pub submitted_by: Option<String>,
    /// When it ended, if it has.
    pub ended_at: Option<Timestamp>,
    /// Why it has ended as it did.
    pub reason: Option<String>,
    /// While it is trained.
    pub open: Option<OpenExperiment>,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueState {
    /// Before it.
    Waiting,
    /// It is trained or evaluated.
    Open,
    /// The ensemble is evaluated.
    Finished,
    /// A run failed for good, or it cannot be trained.
    Failed,
    /// Somebody took it out.
    Cancelled,
}

impl fmt::Display for QueueState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waits in the queue",
            Self::Open => "is trained",
            Self::Finished => "has finished",
            Self::Failed => "has failed",
            Self::Cancelled => "was cancelled",
        })
    }
}

/// An experiment that is trained, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenExperiment {
    /// Where it is.
    pub state: ExperimentState,
    /// Its runs.
    pub runs: usize,
    /// Those of them that have finished, or failed for good.
    pub runs_ended: usize,
    /// Workers that work on it.
    pub workers: usize,
    /// Until all runs are trained by the workers that are there, were none stopped early.
    pub eta: Option<Duration>,
}

/// The whole queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStatus {
    /// What waits or is trained, in the order in which workers come to it; then what has ended, the last
    /// first.
    pub entries: Vec<QueueEntry>,
    /// Whether others can be submitted.
    pub is_open: bool,
    /// Workers that wait for an experiment.
    pub waiting_workers: u32,
}

impl QueueEntry {
    /// That of the only experiment of a coordinator, which nobody has submitted.
    #[must_use]
    pub fn only(experiment: ExperimentName, open: OpenExperiment) -> Self {
        Self {
            experiment,
            state: QueueState::Open,
            priority: 0,
            submitted_at: None,
            submitted_by: None,
            ended_at: None,
            reason: None,
            open: Some(open),
        }
    }

    /// Its state in a word.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match (self.state, &self.open) {
            // It has joined the others, and has no worker yet.
            (QueueState::Open, Some(open)) => match open.state {
                ExperimentState::Waiting => "no worker",
                // Its workers are about to leave it.
                ExperimentState::Finished | ExperimentState::Failed => "ending",
                state => state.as_str(),
            },
            (QueueState::Open, None) => "training",
            (QueueState::Waiting, _) => "waiting",
            (QueueState::Finished, _) => "finished",
            (QueueState::Failed, _) => "failed",
            (QueueState::Cancelled, _) => "cancelled",
        }
    }
}

/// Prints the queue.
///
/// # Errors
/// The coordinator cannot be asked, or the output cannot be written.
pub async fn show(
    options: &Options,
    format: Format,
    width: u16,
    mut out: impl Write,
) -> Result<(), StatusError> {
    let queue = Client::connect(options).await?.queue().await?;
    out.write_all(render(&queue, format, width).as_bytes())?;
    Ok(())
}

/// Takes an experiment out of the queue.
///
/// # Errors
/// The coordinator cannot be asked or does not have the experiment, or the output cannot be written.
pub async fn cancel(
    options: &Options,
    experiment: &ExperimentName,
    mut out: impl Write,
) -> Result<(), StatusError> {
    let was_open = Client::connect(options).await?.cancel(experiment).await?;
    match was_open {
        true => writeln!(
            out,
            "{experiment} is cancelled: its workers commit what they have and leave it; submitted again, it \
             goes on from there"
        )?,
        false => writeln!(out, "{experiment} is cancelled")?,
    }
    Ok(())
}

/// The queue as text.
fn render(queue: &QueueStatus, format: Format, width: u16) -> String {
    let table = Table {
        columns: vec![
            Heading::text("experiment", "experiment", 0),
            Heading::text("state", "state", 0),
            Heading::number("priority", "priority", 4),
            Heading::number("runs_ended", "done", 2),
            Heading::number("runs", "runs", 2),
            Heading::number("workers", "workers", 2),
            Heading::number("eta_seconds", "ETA", 3),
            Heading::text("submitted_at", "submitted (UTC)", 5),
            Heading::text("submitted_by", "by", 6),
            Heading::text("ended_at", "ended (UTC)", 6),
            Heading::text("reason", "reason", 1),
        ],
        rows: queue.entries.iter().map(row).collect(),
    };
    let mut text = table.render(format, width);
    if format == Format::Text {
        if queue.entries.is_empty() {
            text = "the queue is empty\n".to_owned();
        }
        match queue.waiting_workers {
            0 => {}
            1 => text.push_str("1 worker waits for an experiment\n"),
            workers => text.push_str(&format!("{workers} workers wait for an experiment\n")),
        }
        if !queue.is_open {
            text.push_str(
                "this coordinator trains one experiment; `coordinator --serve` takes others, too\n",
            );
        }
    }
    text
}

fn row(entry: &QueueEntry) -> Vec<Cell> {
    let count = |count: Option<usize>| match count {
        Some(count) => Cell::count(count as u64),
        None => Cell::absent(),
    };
    let text = |text: &Option<String>| text.as_deref().map_or_else(Cell::absent, Cell::text);
    let open = entry.open.as_ref();
    let eta = open.and_then(|open| open.eta);
    vec![
        Cell::text(entry.experiment.as_str()),
        Cell::text(entry.state_name()),
        match entry.priority {
            0 => Cell::new(String::new(), 0),
            priority => Cell::new(priority.to_string(), priority),
        },
        count(open.map(|open| open.runs_ended)),
        count(open.map(|open| open.runs)),
        count(open.map(|open| open.workers)),
        match eta {
            Some(eta) => Cell::new(human::duration(eta), eta.as_secs_f64()),
            None => Cell::absent(),
        },
        Cell::time(entry.submitted_at),
        text(&entry.submitted_by),
        Cell::time(entry.ended_at),
        match &entry.reason {
            Some(reason) => Cell::new(one_line(reason).into_owned(), reason.clone()),
            None => Cell::absent(),
        },
    ]
}
