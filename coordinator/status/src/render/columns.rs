//! Tables that drop their least important columns where the terminal is narrow.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Spaces between two columns.
const GAP: u16 = 2;

/// What a column shows of a row, and how much it matters.
pub(super) struct Column<T> {
    pub(super) title: &'static str,
    pub(super) alignment: CellAlignment,
    /// Columns of higher ranks are dropped first; those of rank 0 stay.
    pub(super) rank: u8,
    pub(super) cell: fn(&T) -> String,
}

impl<T> Column<T> {
    pub(super) fn left(title: &'static str, rank: u8, cell: fn(&T) -> String) -> Self {
        Self {
            title,
            alignment: CellAlignment::Left,
            rank,
            cell,
        }
    }

    pub(super) fn right(title: &'static str, rank: u8, cell: fn(&T) -> String) -> Self {
        Self {
            title,
            alignment: CellAlignment::Right,
            rank,
            cell,
        }
    }
}

/// The rows as a table at most `width` characters wide. Columns that are empty in all rows are left out, then
/// those of the highest ranks until the rest fits. Where even that is too wide, cells wrap.
pub(super) fn layout<T>(columns: &[Column<T>], rows: &[T], width: u16) -> String {
    let mut shown: Vec<(&Column<T>, Vec<String>)> = columns
        .iter()
        .map(|column| (column, rows.iter().map(column.cell).collect::<Vec<_>>()))
        .filter(|(column, cells)| column.rank == 0 || cells.iter().any(|cell| !cell.is_empty()))
        .collect();
    loop {
        let mut table = build(&shown);
        let widths = table.column_max_content_widths();
        let needed: usize = widths
            .iter()
            .map(|&width| usize::from(width) + usize::from(GAP))
            .sum();
        let least = shown
            .iter()
            .enumerate()
            .max_by_key(|(_, (column, _))| column.rank);
        match least {
            Some((index, (column, _)))
                if column.rank > 0 && needed > usize::from(width) + usize::from(GAP) =>
            {
                shown.remove(index);
            }
            _ => {
                table
                    .set_content_arrangement(ContentArrangement::Dynamic)
                    .set_width(width);
                return table.trim_fmt();
            }
        }
    }
}

fn build<T>(shown: &[(&Column<T>, Vec<String>)]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(shown.iter().map(|(column, _)| column.title));
    let rows = shown.first().map_or(0, |(_, cells)| cells.len());
    for row in 0..rows {
        table.add_row(shown.iter().map(|(_, cells)| cells[row].as_str()));
    }
    for (index, (column, _)) in shown.iter().enumerate() {
        let Some(formatted) = table.column_mut(index) else {
            continue;
        };
        let last = index + 1 == shown.len();
        formatted.set_padding((0, if last { 0 } else { GAP }));
        formatted.set_cell_alignment(column.alignment);
    }
    table
}
