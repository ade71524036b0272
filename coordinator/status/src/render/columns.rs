//! Tables that drop their least important columns where the terminal is narrow.
//!
//! Every column reserves the width of the widest thing that it may come to show, so that a table does not
//! change its layout from one drawing to the next.

use quartet_shared::terminal::{columns as width_of, fitted};

/// Between two columns.
const GAP: &str = "  ";

/// The least width of a column of names.
const SHORTEST_NAME: usize = 6;

/// The width of a column of names, unless there is more room than the table needs.
const USUAL_NAME: usize = 24;

/// What a column shows of a row, and how much it matters.
pub(super) struct Column<T> {
    title: &'static str,
    aligned_right: bool,
    /// Columns of higher ranks are dropped first; those of rank 0 stay.
    rank: u8,
    /// The width that it reserves.
    width: usize,
    /// The width of its longest name, if it has names. Names are shortened where the terminal is narrow.
    longest: Option<usize>,
    cell: fn(&T) -> String,
}

impl<T> Column<T> {
    /// Text of at most so many columns.
    pub(super) fn text(
        title: &'static str,
        rank: u8,
        width: usize,
        cell: fn(&T) -> String,
    ) -> Self {
        Self {
            title,
            aligned_right: false,
            rank,
            width: width.max(width_of(title)),
            longest: None,
            cell,
        }
    }

    /// Numbers of at most so many columns.
    pub(super) fn number(
        title: &'static str,
        rank: u8,
        width: usize,
        cell: fn(&T) -> String,
    ) -> Self {
        Self {
            aligned_right: true,
            ..Self::text(title, rank, width, cell)
        }
    }

    /// Names, the longest of which has so many columns.
    pub(super) fn name(
        title: &'static str,
        rank: u8,
        longest: usize,
        cell: fn(&T) -> String,
    ) -> Self {
        Self {
            longest: Some(longest),
            ..Self::text(title, rank, longest.min(USUAL_NAME), cell)
        }
    }
}

/// A title and the rows, each a line of at most `width` columns. Columns of the highest ranks are dropped
/// until the rest fits. Then names are shortened, or get the room that is left.
pub(super) fn layout<T>(columns: &[Column<T>], rows: &[&T], width: u16) -> Vec<String> {
    let width = usize::from(width);
    let mut shown: Vec<(&Column<T>, usize)> = columns
        .iter()
        .map(|column| (column, column.width))
        .collect();
    while total(&shown) > width {
        let least = shown.iter().enumerate();
        let least = least.max_by_key(|(_, (column, _))| column.rank);
        match least {
            Some((index, (column, _))) if column.rank > 0 => drop(shown.remove(index)),
            _ => break,
        }
    }
    let (needed, mut room) = (total(&shown), width.saturating_sub(total(&shown)));
    let mut excess = needed.saturating_sub(width);
    for (column, width) in &mut shown {
        let Some(longest) = column.longest else {
            continue;
        };
        let less = excess.min(width.saturating_sub(SHORTEST_NAME));
        let more = room.min(longest.saturating_sub(*width));
        (excess, room) = (excess - less, room - more);
        *width = *width + more - less;
    }
    let titles = line(
        shown.iter().map(|(column, _)| column.title.to_owned()),
        &shown,
        width,
    );
    let rows = rows.iter().map(|row| {
        let cells = shown.iter().map(|(column, _)| (column.cell)(row));
        line(cells, &shown, width)
    });
    std::iter::once(titles).chain(rows).collect()
}

fn total<T>(shown: &[(&Column<T>, usize)]) -> usize {
    let gaps = GAP.len() * shown.len().saturating_sub(1);
    shown.iter().map(|(_, width)| width).sum::<usize>() + gaps
}

fn line<T>(
    cells: impl Iterator<Item = String>,
    shown: &[(&Column<T>, usize)],
    width: usize,
) -> String {
    let cells = cells.zip(shown).map(|(cell, (column, width))| {
        let cell = fitted(&cell, *width);
        let blank = " ".repeat(width - width_of(&cell));
        match column.aligned_right {
            true => blank + &cell,
            false => cell + &blank,
        }
    });
    let line = cells.collect::<Vec<_>>().join(GAP);
    fitted(line.trim_end(), width)
}
