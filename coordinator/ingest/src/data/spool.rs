//! Pixels on their way into a packed data set, in a temporary file instead of memory.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use quartet_shared::dataset::StoredPixels;

use super::DataError;

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// A temporary file without a name that takes images one after the other.
#[derive(Debug)]
pub(super) struct Spool {
    file: Arc<File>,
    buffer: Vec<u8>,
    /// Bytes of all images so far.
    len: u64,
}

impl Spool {
    pub(super) fn new() -> Result<Self, DataError> {
        Ok(Self {
            file: Arc::new(tempfile::tempfile().map_err(failed)?),
            buffer: Vec::new(),
            len: 0,
        })
    }

    /// The place of pixels of which there are none yet.
    pub(super) fn stored(&self) -> StoredPixels {
        StoredPixels {
            file: Arc::clone(&self.file),
            places: Vec::new(),
        }
    }

    /// Takes the pixels of an image. Returns where they begin in the file.
    pub(super) fn push(&mut self, pixels: &[u8]) -> Result<u64, DataError> {
        let place = self.len;
        self.len += pixels.len() as u64;
        self.buffer.extend_from_slice(pixels);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(place)
    }

    /// Writes what is still in memory; then all images can be read.
    pub(super) fn flush(&mut self) -> Result<(), DataError> {
        (&*self.file).write_all(&self.buffer).map_err(failed)?;
        self.buffer.clear();
        Ok(())
    }
}

fn failed(source: io::Error) -> DataError {
    let folder = std::env::temp_dir();
    DataError::Spool { folder, source }
}
