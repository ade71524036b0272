//! Rows for people, as CSV and as JSON.

use std::time::Duration;

use quartet_shared::clock::Timestamp;
use quartet_shared::csv::field;
use quartet_shared::human;
use quartet_shared::label::one_line;
use serde_json::{Map, Value};

use super::Format;

/// Rows of the same columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) columns: Vec<Heading>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Heading {
    /// For programs.
    pub(crate) key: String,
    /// For people.
    pub(crate) title: String,
    /// Columns of higher ranks are left out first where the terminal is narrow; those of rank 0 stay.
    pub(crate) rank: u8,
    pub(crate) is_number: bool,
}

impl Heading {
    pub(crate) fn text(key: &str, title: &str, rank: u8) -> Self {
        Self {
            key: key.to_owned(),
            title: title.to_owned(),
            rank,
            is_number: false,
        }
    }

    pub(crate) fn number(key: &str, title: &str, rank: u8) -> Self {
        Self {
            is_number: true,
            ..Self::text(key, title, rank)
        }
    }
}

/// A value, and how people read it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) value: Value,
}

impl Cell {
    pub(crate) fn new(text: String, value: impl Into<Value>) -> Self {
        let value = value.into();
        Self { text, value }
    }

    pub(crate) fn absent() -> Self {
        Self::new(String::new(), Value::Null)
    }

    /// Text of ours or of strangers.
    pub(crate) fn text(text: &str) -> Self {
        Self::new(one_line(text).into_owned(), text)
    }

    pub(crate) fn count(count: impl Into<u64>) -> Self {
        let count = count.into();
        Self::new(count.to_string(), count)
    }

    /// A fraction of 1, as percent to people.
    pub(crate) fn fraction(fraction: Option<f64>) -> Self {
        Self::of(fraction, |fraction| {
            Self::new(human::percentage(fraction), fraction)
        })
    }

    /// A number with so many decimals to people.
    pub(crate) fn number(number: Option<f64>, decimals: usize) -> Self {
        Self::of(number, |number| {
            Self::new(format!("{number:.decimals$}"), number)
        })
    }

    /// In seconds.
    pub(crate) fn duration(duration: Option<Duration>) -> Self {
        Self::of(duration, |duration| {
            Self::new(human::duration(duration), duration.as_secs_f64())
        })
    }

    /// To the minute to people.
    pub(crate) fn time(time: Option<Timestamp>) -> Self {
        Self::of(time, |time| Self::new(time.minute(), time.to_string()))
    }

    fn of<T>(value: Option<T>, cell: impl FnOnce(T) -> Self) -> Self {
        value.map_or_else(Self::absent, cell)
    }
}

impl Table {
    /// The whole table; `width` is that of the terminal.
    pub(crate) fn render(&self, format: Format, width: u16) -> String {
        match format {
            Format::Text => self.to_text(width),
            Format::Csv => self.to_csv(),
            Format::Json => {
                let json = Value::Array(self.rows.iter().map(|row| self.object(row)).collect());
                format!("{json:#}\n")
            }
        }
    }

    fn object(&self, row: &[Cell]) -> Value {
        let columns = self.columns.iter().map(|column| column.key.clone());
        let values = row.iter().map(|cell| cell.value.clone());
        Value::Object(columns.zip(values).collect::<Map<_, _>>())
    }

    /// Aligned columns, of which those of the highest ranks are left out until the rest fits.
    pub(crate) fn to_text(&self, width: u16) -> String {
        let empty = |index: usize| self.rows.iter().all(|row| row[index].text.is_empty());
        let mut shown: Vec<usize> = (0..self.columns.len())
            .filter(|&index| self.columns[index].rank == 0 || !empty(index))
            .collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|index| self.width_of(index))
            .collect();
        while shown.iter().map(|&index| widths[index] + 2).sum::<usize>() > usize::from(width) + 2 {
            let least = (0..shown.len()).max_by_key(|&at| self.columns[shown[at]].rank);
            match least {
                Some(at) if self.columns[shown[at]].rank > 0 => drop(shown.remove(at)),
                _ => break,
            }
        }
        let line = |cells: Vec<&str>| {
            let cells = shown.iter().zip(cells).map(|(&index, cell)| {
                let width = widths[index];
                match self.columns[index].is_number {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            format!("{}\n", line.trim_end())
        };
        let titles = shown.iter().map(|&index| &self.columns[index].title[..]);
        let rows = self.rows.iter().map(|row| {
            let cells = shown.iter().map(|&index| &row[index].text[..]);
            line(cells.collect())
        });
        line(titles.collect()) + &rows.collect::<String>()
    }

    fn width_of(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].text.chars().count());
        let title = self.columns[column].title.chars().count();
        cells.max().unwrap_or(0).max(title)
    }

    fn to_csv(&self) -> String {
        let titles = self.columns.iter().map(|column| field(&column.key));
        let rows = self.rows.iter().map(|row| {
            let fields = row.iter().map(|cell| match &cell.value {
                Value::Null => String::new(),
                Value::String(text) => field(text).into_owned(),
                value => field(&value.to_string()).into_owned(),
            });
            fields.collect::<Vec<_>>().join(",") + "\n"
        });
        let head = titles.collect::<Vec<_>>().join(",") + "\n";
        head + &rows.collect::<String>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table {
            columns: vec![
                Heading::text("name", "name", 0),
                Heading::number("accuracy", "best", 1),
                Heading::text("note", "note", 2),
            ],
            rows: vec![
                vec![
                    Cell::text("a"),
                    Cell::fraction(Some(0.5)),
                    Cell::text("x, \"y\"\nz"),
                ],
                vec![Cell::text("long"), Cell::fraction(None), Cell::absent()],
            ],
        }
    }

    #[test]
    fn people_see_aligned_columns_that_fit() {
        let text = table().to_text(80);
        assert_eq!(
            text,
            "name     best  note\na     50.00 %  x, \"y\" z\nlong\n"
        );
        assert_eq!(table().to_text(15), "name     best\na     50.00 %\nlong\n");
        assert_eq!(table().to_text(3), "name\na\nlong\n");
    }

    #[test]
    fn programs_get_the_values() {
        let csv = table().render(Format::Csv, 3);
        assert_eq!(
            csv,
            "name,accuracy,note\na,0.5,\"x, \"\"y\"\"\nz\"\nlong,,\n"
        );
        let json: Value = serde_json::from_str(&table().render(Format::Json, 3)).unwrap();
        assert_eq!(json[0]["accuracy"], 0.5);
        assert_eq!(json[0]["note"], "x, \"y\"\nz");
        assert!(json[1]["note"].is_null());
    }
}
