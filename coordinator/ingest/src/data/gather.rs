//! Puts images of any source together and checks what all sources must satisfy.

use quartet_shared::dataset::{Channels, Dataset, Split};

use super::deal::{Dealing, Dealt, Key};
use super::spool::Spool;
use super::{DataError, Loaded, Options};

/// How many messages of skipped rows are kept for the warning.
const KEPT_MESSAGES: usize = 3;
/// Buffers grow by this much at least, and by an eighth: doubling could take twice the data set's memory.
const MIN_GROWTH: usize = 4 << 20;

/// A data set in the making.
pub(super) struct Gather {
    skip_bad: bool,
    dealing: Dealing,
    channels: Channels,
    /// Where the pixels are kept, if not in memory.
    spool: Option<Spool>,
    /// The hashes are there only if images are to be dealt.
    images: Dealt,
    skipped: usize,
    first_skipped: Vec<String>,
    warnings: Vec<String>,
}

impl Gather {
    pub(super) fn new(options: &Options) -> Result<Self, DataError> {
        let spool = options.spool.then(Spool::new).transpose()?;
        let mut images = Dealt::default();
        for split in &mut images.splits {
            split.stored = spool.as_ref().map(Spool::stored);
        }
        Ok(Self {
            skip_bad: options.skip_bad_rows,
            dealing: options.dealing,
            channels: options.channels,
            spool,
            images,
            skipped: 0,
            first_skipped: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// Adds an image.
    pub(super) fn push(
        &mut self,
        split: Split,
        label: u8,
        key: Key<'_>,
        pixels: &[u8],
    ) -> Result<(), DataError> {
        self.push_soft(split, label, &[], key, pixels)
    }

    /// Adds an image with its votes, if it has any: all images have some or none.
    pub(super) fn push_soft(
        &mut self,
        split: Split,
        label: u8,
        votes: &[u8],
        key: Key<'_>,
        pixels: &[u8],
    ) -> Result<(), DataError> {
        if self.deals() {
            self.images.hashes[split as usize].push(key.hash());
        }
        let images = &mut self.images.splits[split as usize];
        images.labels.push(label);
        images.votes.extend_from_slice(votes);
        if let (Some(spool), Some(stored)) = (&mut self.spool, &mut images.stored) {
            stored.places.push(spool.push(pixels)?);
            return Ok(());
        }
        let len = images.pixels.len();
        if images.pixels.capacity() - len < pixels.len() {
            images
                .pixels
                .reserve_exact(pixels.len().max(len / 8).max(MIN_GROWTH));
        }
        images.pixels.extend_from_slice(pixels);
        Ok(())
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Counts a bad row or image, or gives the error back if it is not to be skipped.
    pub(super) fn bad(&mut self, error: DataError) -> Result<(), DataError> {
        if !(self.skip_bad && error.can_skip()) {
            return Err(error);
        }
        self.skipped += 1;
        if self.first_skipped.len() < KEPT_MESSAGES {
            self.first_skipped.push(error.what());
        }
        Ok(())
    }

    /// How many rows or images were left out.
    pub(super) const fn skipped(&self) -> usize {
        self.skipped
    }

    /// Whether images are to be dealt, so that the source need not.
    pub(super) fn deals(&self) -> bool {
        self.dealing != Dealing::Own
    }

    /// The data set of images of one size, dealt as the options say, if no class is missing from the training
    /// split and no split is empty; the test split may be, unless the source has one (`has_test`). `origin`
    /// names the source in errors.
    pub(super) fn finish(
        mut self,
        origin: &str,
        [height, width]: [u16; 2],
        classes: Vec<String>,
        has_test: bool,
    ) -> Result<Loaded, DataError> {
        if let Some(spool) = &mut self.spool {
            spool.flush()?;
        }
        let has_test = self.deal(origin)?.unwrap_or(has_test);
        let skipped = self.skipped;
        for images in &mut self.images.splits {
            images.pixels.shrink_to_fit();
        }
        let dataset = Dataset {
            width,
            height,
            channels: self.channels,
            classes,
            splits: self.images.splits,
        };
        let has_no_test = !has_test && dataset.is_empty(Split::Test);
        let splits: &[Split] = match has_no_test {
            true => &[Split::Train, Split::Valid],
            false => &Split::ALL,
        };
        for &split in splits {
            if dataset.is_empty(split) {
                return Err(DataError::EmptySplit {
                    origin: origin.to_owned(),
                    split,
                    skipped,
                });
            }
        }
        for &split in splits {
            let missing = missing_classes(&dataset, split);
            match missing.first() {
                Some(class) if split == Split::Train => {
                    let (origin, class) = (origin.to_owned(), class.clone());
                    return Err(DataError::MissingClass {
                        origin,
                        class,
                        skipped,
                    });
                }
                Some(_) => self.warnings.push(format!(
                    "{origin}: the {split} split has no image of class {}",
                    missing.join(", ")
                )),
                None => {}
            }
        }
        if has_no_test {
            self.warnings.push(format!(
                "{origin}: no test split; the evaluation will be that of the validation split, on which the \
                 best epochs are chosen (--split deals all images anew)"
            ));
        }
        if skipped > 0 {
            self.warnings.push(format!(
                "left {skipped} bad rows or images out; the first: {}",
                self.first_skipped.join("; ")
            ));
        }
        Ok(Loaded {
            dataset,
            skipped,
            warnings: self.warnings,
        })
    }

    /// Deals the images. Returns whether there is to be a test split, if that is up to the options.
    fn deal(&mut self, origin: &str) -> Result<Option<bool>, DataError> {
        match self.dealing {
            Dealing::Own => Ok(None),
            Dealing::Valid(fraction) => {
                let found = self.images.splits[Split::Valid as usize].len();
                if found > 0 {
                    return Err(DataError::HasValid {
                        origin: origin.to_owned(),
                        found,
                    });
                }
                self.images.deal_valid(fraction);
                Ok(None)
            }
            Dealing::All(shares) => {
                self.images.deal_all(shares);
                Ok(Some(shares.has_test()))
            }
        }
    }
}

fn missing_classes(dataset: &Dataset, split: Split) -> Vec<String> {
    let counts = dataset.class_counts(split);
    let missing = dataset
        .classes
        .iter()
        .zip(counts)
        .filter(|(_, count)| *count == 0);
    missing.map(|(class, _)| class.clone()).collect()
}
