//! Lines of a file with their numbers, in constant memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// The longest line that is kept: an image of more than 2000 x 2000 pixels.
pub(super) const LIMIT: usize = 16 << 20;

/// A line that is not blank.
pub(super) struct Line<'a> {
    /// As an editor counts, from 1.
    pub(super) number: u64,
    /// Without its end; `None` if it is longer than [`LIMIT`].
    pub(super) bytes: Option<&'a [u8]>,
}

/// A file, line by line.
pub(super) struct Lines {
    input: BufReader<File>,
    buffer: Vec<u8>,
    number: u64,
}

impl Lines {
    pub(super) fn open(file: &Path) -> io::Result<Self> {
        let input = BufReader::with_capacity(1 << 16, File::open(file)?);
        Ok(Self {
            input,
            buffer: Vec::new(),
            number: 0,
        })
    }

    /// The next line that is not blank.
    pub(super) fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            self.buffer.clear();
            let read = self
                .input
                .by_ref()
                .take(LIMIT as u64)
                .read_until(b'\n', &mut self.buffer)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if read == LIMIT && self.buffer.last() != Some(&b'\n') {
                self.input.skip_until(b'\n')?;
                return Ok(Some(Line {
                    number: self.number,
                    bytes: None,
                }));
            }
            if !self.buffer.trim_ascii().is_empty() {
                let bytes = self.buffer.trim_ascii_end();
                return Ok(Some(Line {
                    number: self.number,
                    bytes: Some(bytes),
                }));
            }
        }
    }
}
