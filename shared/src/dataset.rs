//! The packed data set: images of one shape, u8, in three splits, with their classes.
//!
//! Gray images with labels alone have the format `QDS1`, little endian:
//! 1. magic `QDS1` (4 bytes), width u16, height u16, number of classes u16, reserved u16 (0)
//! 2. the name of each class: length u16, then UTF-8
//! 3. the number of images of each split, u64, in the order of [`Split::ALL`]
//! 4. the labels of each split, 1 byte an image
//! 5. the pixels of each split, row-major, `width * height` bytes an image
//!
//! All others have the format `QDS2`, which differs in that
//! - instead of the reserved u16 there are the number of channels, u8 (1 or 3), and whether there are votes,
//!   u8 (0 or 1)
//! - after all labels come the votes of each split, if there are any: 1 byte a class of an image
//! - an image has `width * height * channels` bytes, the channels of a pixel beside each other: red, green,
//!   blue
//!
//! Nothing follows. A data set has one form, so that its SHA-256 names it.

mod codec;
mod error;
mod shape;
mod stored;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use error::DatasetError;
pub use shape::{Channels, ImageShape, InvalidChannels};
pub use stored::{OpenError, StoredPixels};

/// The part that an image plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Trained on.
    Train,
    /// Chooses the best epoch (FER2013: `PublicTest`).
    Valid,
    /// Only for the final evaluation (FER2013: `PrivateTest`).
    Test,
}

impl Split {
    /// All splits in the order of the format.
    pub const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];

    /// The name that people and files use: `train`, `valid` or `test`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The classes of FER2013 in the order of their numbers.
pub const EMOTIONS: [&str; 7] = [
    "angry", "disgust", "fear", "happy", "sad", "surprise", "neutral",
];

/// Images of one split.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// Class of each image.
    pub labels: Vec<u8>,
    /// How many people voted for each class, `[n, classes]`: soft labels, with the class of most votes as the
    /// label. Empty in a data set with labels alone.
    pub votes: Vec<u8>,
    /// Pixels of all images, `[n, height, width, channels]`, 0 to 255. Empty if they are stored.
    pub pixels: Vec<u8>,
    /// Where the pixels are, if they are not in memory.
    pub stored: Option<StoredPixels>,
}

impl Images {
    /// How many images there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The votes for each class of an image; `None` in a data set with labels alone.
    #[must_use]
    pub fn votes(&self, index: usize) -> Option<&[u8]> {
        let classes = self.votes.len() / self.len().max(1);
        let votes = self.votes.get(index * classes..(index + 1) * classes)?;
        (!votes.is_empty()).then_some(votes)
    }
}

/// A packed data set, whose pixels are in memory or in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// What a pixel has.
    pub channels: Channels,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// The splits in the order of [`Split::ALL`].
    pub splits: [Images; 3],
}

/// What the beginning of a packed data set says of it: labels and names, and where the pixels are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// What a pixel has.
    pub channels: Channels,
    /// Names of the classes.
    pub classes: Vec<String>,
    labels: [Vec<u8>; 3],
    /// Where the pixels begin.
    pixels_at: u64,
}

impl Index {
    /// The shape of the images.
    #[must_use]
    pub fn shape(&self) -> ImageShape {
        shape([self.height, self.width], self.channels)
    }

    /// The class of each image of a split.
    #[must_use]
    pub fn labels(&self, split: Split) -> &[u8] {
        &self.labels[split as usize]
    }

    /// Where the pixels of an image are, in bytes from the beginning.
    #[must_use]
    pub fn image(&self, split: Split, index: u64) -> Range<u64> {
        let size = self.shape().bytes() as u64;
        let before = self.labels[..split as usize].iter();
        let images: u64 = before.map(|labels| labels.len() as u64).sum();
        let start = self.pixels_at + (images + index) * size;
        start..start + size
    }

    /// How many bytes the whole data set has.
    #[must_use]
    pub fn size(&self) -> u64 {
        let images: u64 = self.labels.iter().map(|labels| labels.len() as u64).sum();
        self.image(Split::Train, images).start
    }

    /// How many images of each class there are.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let count = |labels: &Vec<u8>| {
            let mut of_class = vec![0; self.classes.len()];
            for &label in labels {
                of_class[usize::from(label)] += 1;
            }
            of_class
        };
        Summary {
            classes: self.classes.clone(),
            images: self.labels.each_ref().map(count),
        }
    }
}

/// How many images of which class a data set has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// How many images of each class a split has, in the order of [`Split::ALL`] and of the classes.
    pub images: [Vec<u64>; 3],
}

impl Summary {
    /// How many images of each class a split has, in the order of the classes.
    #[must_use]
    pub fn split(&self, split: Split) -> &[u64] {
        &self.images[split as usize]
    }
}

impl Dataset {
    /// The images of a split.
    #[must_use]
    pub fn split(&self, split: Split) -> &Images {
        &self.splits[split as usize]
    }

    /// How many images a split has.
    #[must_use]
    pub fn len(&self, split: Split) -> usize {
        self.split(split).len()
    }

    /// Whether a split has no image.
    #[must_use]
    pub fn is_empty(&self, split: Split) -> bool {
        self.split(split).is_empty()
    }

    /// The shape of the images.
    #[must_use]
    pub fn shape(&self) -> ImageShape {
        shape([self.height, self.width], self.channels)
    }

    /// Whether labels are soft: every image has votes.
    #[must_use]
    pub fn is_soft(&self) -> bool {
        self.splits.iter().any(|images| !images.votes.is_empty())
    }

    /// Bytes of one image.
    #[must_use]
    pub fn image_len(&self) -> usize {
        self.shape().bytes()
    }

    /// The pixels of one image, `[height, width, channels]`; `None` past the end of the split, or if pixels
    /// are not in memory.
    #[must_use]
    pub fn image(&self, split: Split, index: usize) -> Option<&[u8]> {
        let start = index.checked_mul(self.image_len())?;
        self.split(split)
            .pixels
            .get(start..start.checked_add(self.image_len())?)
    }

    /// The class of one image; `None` past the end of the split.
    #[must_use]
    pub fn label(&self, split: Split, index: usize) -> Option<u8> {
        self.split(split).labels.get(index).copied()
    }

    /// How many images of each class a split has, in the order of the classes.
    #[must_use]
    pub fn class_counts(&self, split: Split) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for &label in &self.split(split).labels {
            if let Some(count) = counts.get_mut(usize::from(label)) {
                *count += 1;
            }
        }
        counts
    }
}

fn shape(size: [u16; 2], channels: Channels) -> ImageShape {
    let [height, width] = size.map(usize::from);
    ImageShape {
        height,
        width,
        channels,
    }
}
