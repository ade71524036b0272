//! Pixels that stay in a file until they are needed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use super::{Dataset, DatasetError, Images, Index, Split};

/// Bytes of a packed data set's beginning that are read first; twice as many then, until its pixels begin.
const FIRST_READ: u64 = 1 << 20;

/// Pixels of images in a file that nobody changes.
#[derive(Clone, Debug)]
pub struct StoredPixels {
    /// The file.
    pub file: Arc<File>,
    /// Where each image begins, in bytes.
    pub places: Vec<u64>,
}

impl PartialEq for StoredPixels {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.places == other.places
    }
}

impl Eq for StoredPixels {}

/// Why the file of a packed data set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no data set.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

impl Images {
    /// Appends the pixels of an image, `[height, width, channels]`, to `out`. `len` is how many bytes an
    /// image has; `index` must be one of the split.
    ///
    /// # Errors
    /// The file of the pixels cannot be read.
    pub fn read(&self, index: usize, len: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let Some(StoredPixels { file, places }) = &self.stored else {
            out.extend_from_slice(&self.pixels[index * len..(index + 1) * len]);
            return Ok(());
        };
        let start = out.len();
        out.resize(start + len, 0);
        file.read_exact_at(&mut out[start..], places[index])
    }
}

impl Dataset {
    /// Opens the file of a packed data set. Labels and votes are read at once, pixels when they are needed:
    /// the file must stay as it is, but its name may go.
    ///
    /// # Errors
    /// It cannot be read, or is not exactly one valid data set.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let file = Arc::new(File::open(path)?);
        let found = file.metadata()?.len();
        let mut wanted = FIRST_READ;
        let (index, votes) = loop {
            let mut beginning = vec![0; wanted.min(found) as usize];
            file.read_exact_at(&mut beginning, 0)?;
            match Index::with_votes(&beginning) {
                Err(DatasetError::TruncatedHeader { .. }) if wanted < found => wanted *= 2,
                index => break index?,
            }
        };
        let Index { classes, .. } = &index;
        let mut dataset = Self {
            width: index.width,
            height: index.height,
            channels: index.channels,
            classes: classes.clone(),
            splits: Default::default(),
        };
        let mut expected = index.image(Split::Train, 0).start;
        for ((split, images), votes) in Split::ALL.into_iter().zip(&mut dataset.splits).zip(votes) {
            let labels = index.labels(split).to_vec();
            let places = (0..labels.len() as u64).map(|image| index.image(split, image).start);
            let places: Vec<u64> = places.collect();
            expected += (labels.len() * index.shape().bytes()) as u64;
            *images = Images {
                labels,
                votes,
                pixels: Vec::new(),
                stored: Some(StoredPixels {
                    file: Arc::clone(&file),
                    places,
                }),
            };
        }
        if expected != found {
            return Err(DatasetError::Length { expected, found }.into());
        }
        Ok(dataset)
    }
}
