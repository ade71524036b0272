//! A snapshot as tables.

use quartet_shared::human;
use quartet_shared::terminal::{Size, fitted};

use super::columns::{Column, layout};
use super::notes::notes;
use super::{eta, headline, runs, workers};
use crate::snapshot::Snapshot;

/// The part of a small terminal's rows that notes may take.
const NOTES_SHARE: usize = 4;

/// The whole state: headline, runs, workers, the ensemble, and why something failed. The tables are at most
/// `width` columns wide. Ends with a newline.
#[must_use]
pub fn table(snapshot: &Snapshot, width: u16) -> String {
    let sections = Sections {
        headline: vec![long_headline(snapshot)],
        runs: run_table(snapshot, usize::MAX, width),
        workers: worker_table(snapshot, usize::MAX, width),
        notes: notes(snapshot),
    };
    sections.join("\n\n")
}

/// The same for a terminal of which one row stays free. Lines that are too long are cut. Where not all fits,
/// blank lines go, and rows of little interest are counted instead. `remark` is shown first of the notes.
#[must_use]
pub fn screen(snapshot: &Snapshot, size: Size, remark: Option<&str>) -> String {
    let (width, rows) = (size.columns, usize::from(size.rows.saturating_sub(1)));
    let cut = |line: &str| fitted(line, usize::from(width));
    let remark = remark.map(str::to_owned);
    let notes: Vec<_> = remark.into_iter().chain(notes(snapshot)).collect();
    let notes: Vec<_> = notes.iter().map(|note| cut(note)).collect();
    let mut sections = Sections {
        headline: vec![cut(&long_headline(snapshot))],
        runs: run_table(snapshot, usize::MAX, width),
        workers: worker_table(snapshot, usize::MAX, width),
        notes,
    };
    let text = sections.join("\n\n");
    if text.lines().count() <= rows {
        return text;
    }
    sections.limit(snapshot, rows, width);
    let text = sections.join("\n");
    text.split_inclusive('\n').take(rows.max(1)).collect()
}

/// Lines that belong together.
struct Sections {
    headline: Vec<String>,
    runs: Vec<String>,
    workers: Vec<String>,
    notes: Vec<String>,
}

impl Sections {
    fn join(&self, separator: &str) -> String {
        let all = [&self.headline, &self.runs, &self.workers, &self.notes];
        let shown = all.into_iter().filter(|lines| !lines.is_empty());
        let shown: Vec<_> = shown.map(|lines| lines.join("\n")).collect();
        shown.join(separator) + "\n"
    }

    /// Leaves so many lines. The tables share what the headline and the notes leave.
    fn limit(&mut self, snapshot: &Snapshot, rows: usize, width: u16) {
        let tables = rows.saturating_sub(self.headline.len());
        let least = self.runs.len().min(2) + self.workers.len().min(2);
        let notes = tables.saturating_sub(self.runs.len() + self.workers.len());
        let notes = notes.max((rows / NOTES_SHARE).min(tables.saturating_sub(least)));
        if self.notes.len() > notes {
            let hidden = self.notes.len() + 1 - notes;
            self.notes.truncate(notes.saturating_sub(1));
            if notes > 0 {
                let hidden = format!("+{hidden} more notes");
                self.notes.push(fitted(&hidden, usize::from(width)));
            }
        }
        let tables = tables.saturating_sub(self.notes.len());
        let for_runs = share(tables, self.runs.len(), self.workers.len());
        self.runs = run_table(snapshot, for_runs, width);
        let for_workers = tables.saturating_sub(self.runs.len());
        if self.workers.len() > for_workers {
            self.workers = worker_table(snapshot, for_workers, width);
        }
    }
}

/// What one of two gets that want so much of `all`: half of it, and what the other does not need.
fn share(all: usize, wants: usize, other: usize) -> usize {
    let half = all.div_ceil(2);
    wants.min(half.max(all.saturating_sub(other)))
}

fn long_headline(snapshot: &Snapshot) -> String {
    let mut text = headline(snapshot);
    if let Some(left) = snapshot.eta {
        text += &format!(", ETA {}", eta(left));
    }
    text += &format!(", up {}", human::duration(snapshot.uptime));
    if !snapshot.revision.is_first() {
        text += &format!(" (revision {})", snapshot.revision);
    }
    if snapshot.term.0 > 1 {
        text += &format!(" (term {})", snapshot.term);
    }
    text
}

fn run_table(snapshot: &Snapshot, lines: usize, width: u16) -> Vec<String> {
    let rows: Vec<_> = snapshot.runs.iter().collect();
    let columns = runs::columns(&snapshot.runs);
    limited(&columns, rows, lines, width, runs::urgency, runs::state)
}

fn worker_table(snapshot: &Snapshot, lines: usize, width: u16) -> Vec<String> {
    let rows = workers::shown(snapshot);
    if !rows.is_empty() {
        let columns = workers::columns(snapshot);
        return limited(
            &columns,
            rows,
            lines,
            width,
            workers::urgency,
            workers::state,
        );
    }
    if snapshot.state.has_ended() || snapshot.stopping {
        return Vec::new();
    }
    let invitation = "no workers yet: join with `worker --coordinator HOST:PORT`";
    vec![fitted(invitation, usize::from(width))]
}

/// A table of at most so many lines. The most urgent rows are shown, and the others counted by their state:
/// `+14 finished, 3 pending`.
fn limited<T>(
    columns: &[Column<T>],
    mut rows: Vec<&T>,
    lines: usize,
    width: u16,
    urgency: fn(&T) -> u8,
    state: fn(&T) -> &'static str,
) -> Vec<String> {
    if rows.len() < lines {
        return layout(columns, &rows, width);
    }
    rows.sort_by_key(|row| urgency(row));
    // The titles and the count are lines, too.
    let hidden = rows.split_off(lines.saturating_sub(2).min(rows.len()));
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for row in hidden {
        let state = state(row);
        match counts.iter_mut().find(|(known, _)| *known == state) {
            Some((_, count)) => *count += 1,
            None => counts.push((state, 1)),
        }
    }
    let counts = counts
        .iter()
        .map(|(state, count)| format!("{count} {state}"));
    let mut table = layout(columns, &rows, width);
    let counted = format!("+{}", counts.collect::<Vec<_>>().join(", "));
    table.push(fitted(&counted, usize::from(width)));
    table
}
