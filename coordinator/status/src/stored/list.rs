//! All experiments of a store as a table.

use quartet_history::{ExperimentRecord, Standing};
use quartet_shared::clock::Timestamp;
use quartet_shared::dataset::Split;
use quartet_shared::human;
use quartet_shared::ids::Revision;

use super::table::{Cell, Heading, Table};

/// A row for each experiment.
pub(super) fn table(records: &[ExperimentRecord], now: Timestamp) -> Table {
    Table {
        columns: vec![
            Heading::text("experiment", "experiment", 0),
            Heading::text("state", "state", 0),
            Heading::number("runs", "runs", 2),
            Heading::number("runs_finished", "done", 3),
            Heading::number("valid_accuracy", "valid", 0),
            Heading::number("test_accuracy", "test", 1),
            Heading::text("ensemble_without", "without", 4),
            Heading::number("best_run_accuracy", "best run", 4),
            Heading::text("best_run", "", 5),
            Heading::text("began_at", "began (UTC)", 6),
            Heading::number("took_seconds", "took", 7),
            Heading::text("last_sign", "last sign", 8),
            Heading::text("tags", "tags", 9),
            Heading::text("note", "note", 10),
            Heading::number("revision", "revision", 8),
        ],
        rows: records.iter().map(|record| row(record, now)).collect(),
    }
}

fn row(record: &ExperimentRecord, now: Timestamp) -> Vec<Cell> {
    let standing = record.standing();
    let finished = record.runs.iter().filter(|run| run.outcome.is_some());
    let best = record.best_run();
    let accuracy = best.and_then(|run| run.best());
    vec![
        Cell::text(record.spec.experiment.name.as_str()),
        Cell::text(standing.as_str()),
        Cell::count(record.runs.len() as u64),
        Cell::count(finished.count() as u64),
        Cell::fraction(record.ensemble_accuracy(Split::Valid)),
        Cell::fraction(record.ensemble_accuracy(Split::Test)),
        Cell::text(&record.missing()),
        Cell::fraction(accuracy.map(|best| best.best_valid_accuracy)),
        best.map_or_else(Cell::absent, |run| Cell::text(run.spec.name.as_str())),
        Cell::time(record.began_at()),
        Cell::duration(record.took()),
        match (standing, record.last_sign()) {
            (Standing::Unfinished | Standing::Stopped, Some(last)) => {
                let ago = format!("{} ago", human::duration(now.since(last)));
                Cell::new(ago, last.to_string())
            }
            (_, last) => Cell {
                text: String::new(),
                ..Cell::time(last)
            },
        },
        Cell::text(&record.spec.tags.join(", ")),
        record
            .spec
            .note
            .as_deref()
            .map_or_else(Cell::absent, Cell::text),
        match record.spec.revision() {
            Revision::FIRST => Cell::new(String::new(), 1),
            Revision(later) => Cell::count(later),
        },
    ]
}
