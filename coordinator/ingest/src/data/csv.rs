//! FER2013's CSV files: `fer2013.csv`, `icml_face_data.csv`, and `train.csv` with `test.csv`; and FER+'s
//! labels for `fer2013.csv`.
//!
//! Columns are found by their names, trimmed and without regard to case; commas, semicolons or tabs are
//! between them. A file without `Usage` is split by a hash of the row number: 80 % train, 10 % valid, 10 %
//! test (90 % and 10 % if there is a test file with labels), unless the options deal the images. The split is
//! a function of the row number alone, so rows that are skipped or appended move no other row.
//!
//! The crate `csv` bounds no record's length, takes lines up to the next quote after an unclosed one, and
//! reads a quote after a space as text. Here a bad line costs its own row and memory is bounded.

mod fer_plus;
mod labels;
mod lines;
mod row;
mod table;
#[cfg(test)]
mod tests;

use std::path::Path;

use quartet_shared::dataset::Split;

use self::labels::Labels;
use self::lines::Line;
use self::table::{Shape, Table};
use super::deal::Key;
use super::gather::Gather;
use super::{DataError, Loaded, Options, RowProblem};

/// How the rows of a file are dealt to the splits.
#[derive(Clone, Copy)]
enum Deal {
    /// By the `Usage` column.
    Usage,
    /// By the row's hash, to all three splits.
    Three,
    /// By the row's hash, to train and valid.
    TrainValid,
    /// All to one split.
    Only(Split),
}

/// Where a table's rows have what is needed.
#[derive(Clone, Copy)]
struct Columns {
    emotion: usize,
    pixels: usize,
    usage: Option<usize>,
}

/// The images of one or two files.
struct Reading {
    gather: Gather,
    labels: Labels,
    /// The count of pixels, set by the first good row of the first file.
    image_len: Option<usize>,
}

/// Loads `file`, and `test` beside it if that has labels and `file` has no `Usage` column.
pub(super) fn load(
    file: &Path,
    test: Option<&Path>,
    options: &Options,
) -> Result<Loaded, DataError> {
    let table = Table::open(file)?;
    let origin = file.display().to_string();
    options.refuse_for_image_files(&origin)?;
    if fer_plus::is_labels(&table) {
        return fer_plus::load(table, options);
    }
    options.refuse_soft_labels(&origin)?;
    let mut reading = Reading {
        gather: Gather::new(options)?,
        labels: Labels::new(options),
        image_len: None,
    };
    let has_test = if table.column("usage").is_some() {
        reading.read(table, Deal::Usage)?;
        reading.gather.skipped() > 0
    } else {
        reading.read_without_usage(table, test)?
    };
    let side = reading.image_len.and_then(row::side).unwrap_or(1);
    let classes = reading.labels.into_names();
    reading.gather.finish(&origin, [side; 2], classes, has_test)
}

impl Reading {
    /// Reads a table that has no `Usage` column, and the test file if it has labels. Returns whether there is
    /// to be a test split.
    fn read_without_usage(&mut self, table: Table, test: Option<&Path>) -> Result<bool, DataError> {
        let test = test.map(Table::open).transpose()?;
        let (scored, unscored): (Vec<_>, Vec<_>) = test
            .into_iter()
            .partition(|test| test.column("emotion").is_some());
        for test in unscored {
            self.gather.warn(format!(
                "{}: ignored, because it has no `emotion` column and cannot be scored",
                test.file.display()
            ));
        }
        let deals = self.gather.deals();
        let (deal, shares) = if scored.is_empty() {
            (Deal::Three, "80 % train, 10 % valid and 10 % test")
        } else {
            (Deal::TrainValid, "90 % train and 10 % valid")
        };
        if !deals {
            self.gather.warn(format!(
                "{}: no `Usage` column, so a hash of the row number splits it into {shares}; \
                 the results do not compare with those of FER2013's own split",
                table.file.display()
            ));
        }
        let has_test = !deals || !scored.is_empty();
        self.read(
            table,
            if deals {
                Deal::Only(Split::Train)
            } else {
                deal
            },
        )?;
        for test in scored {
            self.read(test, Deal::Only(Split::Test))?;
        }
        Ok(has_test)
    }

    /// Reads the rows of a table.
    fn read(&mut self, mut table: Table, deal: Deal) -> Result<(), DataError> {
        let (columns, shape, file) = (columns(&table)?, table.shape(), table.file.clone());
        let mut image = Vec::new();
        let mut row = 0;
        while let Some(line) = table.next_line()? {
            match self.parse(columns, shape, &line, deal, row, &mut image) {
                Ok((split, label)) => {
                    self.image_len = Some(image.len());
                    self.gather.push(split, label, Key::Row(row), &image)?;
                }
                Err(problem) => {
                    let (file, line) = (file.clone(), line.number);
                    self.gather.bad(DataError::Row {
                        file,
                        line,
                        problem,
                    })?;
                }
            }
            row += 1;
        }
        Ok(())
    }

    /// Reads one row, its pixels into `image`. `row` counts from 0.
    fn parse(
        &mut self,
        columns: Columns,
        shape: Shape,
        line: &Line<'_>,
        deal: Deal,
        row: u64,
        image: &mut Vec<u8>,
    ) -> Result<(Split, u8), RowProblem> {
        let wanted = [Some(columns.emotion), Some(columns.pixels), columns.usage];
        let [emotion, pixels, usage] = shape.pick(line, wanted)?;
        let label = self.labels.label(emotion)?;
        let split = match deal {
            Deal::Usage => row::usage(usage)?,
            Deal::Three => deal_row(row),
            Deal::TrainValid if deal_row(row) == Split::Valid => Split::Valid,
            Deal::TrainValid => Split::Train,
            Deal::Only(split) => split,
        };
        row::pixels(pixels, image)?;
        row::check_len(image.len(), self.image_len)?;
        self.labels.seen(label);
        Ok((split, label))
    }
}

fn columns(table: &Table) -> Result<Columns, DataError> {
    Ok(Columns {
        emotion: table.required("emotion")?,
        pixels: table.required("pixels")?,
        usage: table.column("usage"),
    })
}

/// Of ten rows about eight go to train, one to valid, one to test (SplitMix64 of the row number, modulo 10).
fn deal_row(row: u64) -> Split {
    let mut hash = row.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    match (hash ^ (hash >> 31)) % 10 {
        0 => Split::Valid,
        1 => Split::Test,
        _ => Split::Train,
    }
}
