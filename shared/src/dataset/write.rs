//! Writes the formats `QDS1` and `QDS2`.

use std::io;

use super::codec::MAGICS;
use super::{Channels, Dataset};

/// Bytes of pixels that are written at once, or one image if that is more.
const PIECE: usize = 1 << 20;

impl Dataset {
    /// Whether the format is `QDS1`.
    fn is_plain(&self) -> bool {
        self.channels == Channels::Gray && !self.is_soft()
    }

    /// The bytes of the packed data set, in pieces of about [`PIECE`] bytes of pixels.
    ///
    /// # Errors
    /// `InvalidInput` with a [`DatasetError`] when [`Dataset::validate`] fails. A piece is an error if stored
    /// pixels cannot be read.
    pub fn pieces(&self) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>> + Send> {
        self.validate()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let len = self.image_len();
        let at_once = (PIECE / len).max(1);
        let labels = self.splits.iter().map(|images| images.labels.clone());
        let votes = self.splits.iter().map(|images| images.votes.clone());
        let pixels = self.splits.iter().flat_map(move |images| {
            let starts = (0..images.len()).step_by(at_once);
            starts.map(move |start| {
                let mut piece = Vec::with_capacity(at_once * len);
                for index in start..images.len().min(start + at_once) {
                    images.read(index, len, &mut piece)?;
                }
                Ok(piece)
            })
        });
        let beginning = std::iter::once(self.header()?).chain(labels).chain(votes);
        Ok(beginning.map(Ok).chain(pixels))
    }

    /// What comes before the labels.
    fn header(&self) -> io::Result<Vec<u8>> {
        let mut header = Vec::new();
        let is_plain = self.is_plain();
        header.extend_from_slice(MAGICS[usize::from(!is_plain)]);
        for number in [self.width, self.height, narrow(self.classes.len())?] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        header.extend_from_slice(&match is_plain {
            true => [0, 0],
            false => [self.channels.count() as u8, u8::from(self.is_soft())],
        });
        for name in &self.classes {
            header.extend_from_slice(&narrow(name.len())?.to_le_bytes());
            header.extend_from_slice(name.as_bytes());
        }
        for images in &self.splits {
            header.extend_from_slice(&(images.len() as u64).to_le_bytes());
        }
        Ok(header)
    }

    /// The packed data set in memory.
    ///
    /// # Panics
    /// If the data set is not valid ([`Dataset::validate`]; what was decoded or loaded always is), or stored
    /// pixels cannot be read.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let pieces = self.pieces().expect("only valid data sets are encoded");
        let pieces: io::Result<Vec<_>> = pieces.collect();
        pieces.expect("the pixels can be read").concat()
    }
}

fn narrow(number: usize) -> io::Result<u16> {
    u16::try_from(number).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}
