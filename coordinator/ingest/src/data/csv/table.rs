//! A CSV file whose header has been read.

use std::path::{Path, PathBuf};

use super::lines::{self, Line, Lines};
use super::row;
use crate::data::{DataError, RowProblem};

/// What may be between two fields. The header shows which it is.
const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];

/// How many columns a message shows.
const SHOWN: usize = 12;

/// A CSV file, behind its header.
pub(super) struct Table {
    pub(super) file: PathBuf,
    lines: Lines,
    header: Vec<String>,
    separator: u8,
}

/// What every row of a table must have.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    separator: u8,
    columns: usize,
}

impl Table {
    pub(super) fn open(file: &Path) -> Result<Self, DataError> {
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
        match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [_, 0, _, 0, ..] | [0, _, 0, _, ..] => {
                return Err(problem(
                    "the file is UTF-16 text; save it as UTF-8 (`iconv -f UTF-16 -t UTF-8`)",
                ));
            }
            [b'P', b'K', 3, 4, ..] | [0x1f, 0x8b, ..] => {
                return Err(problem(
                    "the file is an archive; unpack it and give its folder",
                ));
            }
            _ => {}
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        std::str::from_utf8(bytes).map_err(|_| problem("the file is not UTF-8 text"))?;
        let separator = separator(bytes);
        let header = row::fields(bytes, separator).map(row::excerpt).collect();
        Ok(Self {
            file: file.to_owned(),
            lines,
            header,
            separator,
        })
    }

    /// The place of a column, by its name without regard to case.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.header
            .iter()
            .position(|found| found.eq_ignore_ascii_case(name))
    }

    /// The place of a column that must be there.
    pub(super) fn required(&self, column: &'static str) -> Result<usize, DataError> {
        self.column(column).ok_or_else(|| DataError::MissingColumn {
            file: self.file.clone(),
            column,
            found: self.header.iter().take(SHOWN).cloned().collect(),
        })
    }

    pub(super) const fn shape(&self) -> Shape {
        Shape {
            separator: self.separator,
            columns: self.header.len(),
        }
    }

    /// The next line that is not blank.
    pub(super) fn next_line(&mut self) -> Result<Option<Line<'_>>, DataError> {
        self.lines
            .next_line()
            .map_err(|error| DataError::io(&self.file, error))
    }
}

impl Shape {
    /// The fields of some columns; of a column that is not there nothing.
    pub(super) fn pick<'a, const N: usize>(
        self,
        line: &Line<'a>,
        columns: [Option<usize>; N],
    ) -> Result<[&'a [u8]; N], RowProblem> {
        let bytes = line.bytes.ok_or(RowProblem::TooLong {
            limit: lines::LIMIT,
        })?;
        let mut picked: [&[u8]; N] = [b""; N];
        let mut found = 0;
        for field in row::fields(bytes, self.separator) {
            if let Some(at) = columns.iter().position(|&column| column == Some(found)) {
                picked[at] = field;
            }
            found += 1;
        }
        match found == self.columns {
            true => Ok(picked),
            false => Err(RowProblem::Fields {
                found,
                expected: self.columns,
            }),
        }
    }
}

/// The separator that the header has most of; commas if there are as many.
fn separator(header: &[u8]) -> u8 {
    let count = |separator: u8| header.iter().filter(|&&byte| byte == separator).count();
    let more = |best, next| match count(next) > count(best) {
        true => next,
        false => best,
    };
    SEPARATORS.into_iter().reduce(more).unwrap_or(b',')
}
