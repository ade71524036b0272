//! FER2013's CSV files: `fer2013.csv`, `icml_face_data.csv`, and `train.csv` with `test.csv`.
//!
//! Columns are found by their names, trimmed and without regard to case. A file without `Usage` is split by a
//! hash of the row number: 80 % train, 10 % valid, 10 % test (90 % and 10 % if there is a test file with
//! labels). The split is a function of the row number alone, so rows that are skipped or appended move no
//! other row.
//!
//! The crate `csv` bounds no record's length, takes lines up to the next quote after an unclosed one, and
//! reads a quote after a space as text. Here a bad line costs its own row and memory is bounded.

mod lines;
mod row;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use quartet_shared::dataset::{EMOTIONS, Split};

use self::lines::{Line, Lines};
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
    /// All to the test split.
    Test,
}

/// A CSV file whose header has been read.
struct Table {
    file: PathBuf,
    lines: Lines,
    header: Vec<String>,
}

/// Where a table's rows have what is needed.
struct Columns {
    emotion: usize,
    pixels: usize,
    usage: Option<usize>,
    count: usize,
}

/// Loads `file`, and `test` beside it if that has labels and `file` has no `Usage` column.
pub(super) fn load(
    file: &Path,
    test: Option<&Path>,
    options: &Options,
) -> Result<Loaded, DataError> {
    let mut gather = Gather::new(options.skip_bad_rows);
    let mut image_len = None;
    let table = Table::open(file)?;
    if table.column("usage").is_some() {
        table.read(Deal::Usage, &mut image_len, &mut gather)?;
    } else {
        let test = test.map(Table::open).transpose()?;
        let (scored, unscored): (Vec<_>, Vec<_>) = test
            .into_iter()
            .partition(|test| test.column("emotion").is_some());
        for test in unscored {
            gather.warn(format!(
                "{}: ignored, because it has no `emotion` column and cannot be scored",
                test.file.display()
            ));
        }
        let (deal, shares) = if scored.is_empty() {
            (Deal::Three, "80 % train, 10 % valid and 10 % test")
        } else {
            (Deal::TrainValid, "90 % train and 10 % valid")
        };
        gather.warn(format!(
            "{}: no `Usage` column, so a hash of the row number splits it into {shares}; \
             the results do not compare with those of FER2013's own split",
            file.display()
        ));
        table.read(deal, &mut image_len, &mut gather)?;
        for test in scored {
            test.read(Deal::Test, &mut image_len, &mut gather)?;
        }
    }
    let side = image_len.and_then(row::side).unwrap_or(1);
    gather.finish(
        &file.display().to_string(),
        side,
        EMOTIONS.map(str::to_owned).to_vec(),
    )
}

impl Table {
    fn open(file: &Path) -> Result<Self, DataError> {
        let problem = |problem| DataError::Header {
            file: file.to_owned(),
            problem,
        };
        let mut lines = Lines::open(file).map_err(|error| DataError::io(file, error))?;
        let line = lines
            .next_line()
            .map_err(|error| DataError::io(file, error))?;
        let line = line.ok_or(problem("the file is empty"))?;
        let bytes = line.bytes.ok_or(problem("the line is too long"))?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        std::str::from_utf8(bytes).map_err(|_| problem("the file is not UTF-8 text"))?;
        let header = row::fields(bytes).map(row::excerpt).collect();
        Ok(Self {
            file: file.to_owned(),
            lines,
            header,
        })
    }

    fn column(&self, name: &str) -> Option<usize> {
        self.header
            .iter()
            .position(|found| found.eq_ignore_ascii_case(name))
    }

    fn columns(&self) -> Result<Columns, DataError> {
        let required = |column: &'static str| {
            self.column(column).ok_or_else(|| DataError::MissingColumn {
                file: self.file.clone(),
                column,
                found: self.header.iter().take(12).cloned().collect(),
            })
        };
        let (emotion, pixels) = (required("emotion")?, required("pixels")?);
        Ok(Columns {
            emotion,
            pixels,
            usage: self.column("usage"),
            count: self.header.len(),
        })
    }

    /// Reads the rows. `image_len` is the count of pixels, set by the first good row of the first file.
    fn read(
        mut self,
        deal: Deal,
        image_len: &mut Option<usize>,
        gather: &mut Gather,
    ) -> Result<(), DataError> {
        let columns = self.columns()?;
        let mut image = Vec::new();
        let mut row = 0;
        while let Some(line) = self
            .lines
            .next_line()
            .map_err(|error| DataError::io(&self.file, error))?
        {
            match columns.parse(&line, deal, row, *image_len, &mut image) {
                Ok((split, label)) => {
                    *image_len = Some(image.len());
                    gather.push(split, label, &image);
                }
                Err(problem) => {
                    let (file, line) = (self.file.clone(), line.number);
                    gather.bad(DataError::Row {
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
}

impl Columns {
    /// Reads one row, its pixels into `image`. `row` counts from 0.
    fn parse(
        &self,
        line: &Line<'_>,
        deal: Deal,
        row: u64,
        image_len: Option<usize>,
        image: &mut Vec<u8>,
    ) -> Result<(Split, u8), RowProblem> {
        let bytes = line.bytes.ok_or(RowProblem::TooLong {
            limit: lines::LIMIT,
        })?;
        let (mut emotion, mut pixels, mut usage) = <(&[u8], &[u8], &[u8])>::default();
        let mut found = 0;
        for field in row::fields(bytes) {
            if found == self.emotion {
                emotion = field;
            } else if found == self.pixels {
                pixels = field;
            } else if Some(found) == self.usage {
                usage = field;
            }
            found += 1;
        }
        if found != self.count {
            return Err(RowProblem::Fields {
                found,
                expected: self.count,
            });
        }
        let label = row::emotion(emotion)?;
        let split = match deal {
            Deal::Usage => row::usage(usage)?,
            Deal::Three => deal_row(row),
            Deal::TrainValid if deal_row(row) == Split::Valid => Split::Valid,
            Deal::TrainValid => Split::Train,
            Deal::Test => Split::Test,
        };
        row::pixels(pixels, image)?;
        row::check_len(image.len(), image_len)?;
        Ok((split, label))
    }
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
