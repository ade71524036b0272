//! Puts images of any source together and checks what all sources must satisfy.

use quartet_shared::dataset::{Dataset, Images, Split};

use super::{DataError, Loaded};

/// How many messages of skipped rows are kept for the warning.
const KEPT_MESSAGES: usize = 3;
/// Buffers grow by this much at least, and by an eighth: doubling could take twice the data set's memory.
const MIN_GROWTH: usize = 4 << 20;

/// A data set in the making.
pub(super) struct Gather {
    skip_bad: bool,
    splits: [Images; 3],
    skipped: usize,
    first_skipped: Vec<String>,
    warnings: Vec<String>,
}

impl Gather {
    pub(super) fn new(skip_bad: bool) -> Self {
        let (splits, first_skipped, warnings) = Default::default();
        Self {
            skip_bad,
            splits,
            skipped: 0,
            first_skipped,
            warnings,
        }
    }

    pub(super) fn push(&mut self, split: Split, label: u8, pixels: &[u8]) {
        let images = &mut self.splits[split as usize];
        let len = images.pixels.len();
        if images.pixels.capacity() - len < pixels.len() {
            images
                .pixels
                .reserve_exact(pixels.len().max(len / 8).max(MIN_GROWTH));
        }
        images.labels.push(label);
        images.pixels.extend_from_slice(pixels);
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

    /// The data set of square images, if no split is empty and no class is missing from the training split.
    /// `origin` names the source in errors.
    pub(super) fn finish(
        mut self,
        origin: &str,
        side: u16,
        classes: Vec<String>,
    ) -> Result<Loaded, DataError> {
        let skipped = self.skipped;
        for images in &mut self.splits {
            images.pixels.shrink_to_fit();
        }
        let dataset = Dataset {
            width: side,
            height: side,
            classes,
            splits: self.splits,
        };
        for split in Split::ALL {
            if dataset.is_empty(split) {
                return Err(DataError::EmptySplit {
                    origin: origin.to_owned(),
                    split,
                    skipped,
                });
            }
        }
        for split in Split::ALL {
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
