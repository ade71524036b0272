//! What can be wrong with a packed data set.

use super::Split;

/// Why bytes are not a data set, or a data set cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatasetError {
    /// The magic is missing.
    #[error("not a packed data set: it begins with neither `QDS1` nor `QDS2`")]
    Magic,
    /// The bytes end inside the header.
    #[error("packed data set is truncated in its header, at byte {at}")]
    TruncatedHeader {
        /// Where the bytes end.
        at: usize,
    },
    /// The bytes are fewer or more than the header says.
    #[error("packed data set has {found} bytes where its header says {expected}")]
    Length {
        /// What the header says.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// A number in the header is impossible.
    #[error("packed data set has a bad header: {0}")]
    Header(&'static str),
    /// A class's name is empty, not UTF-8, too long or used twice.
    #[error("packed data set has a bad name for class {class}: {problem}")]
    ClassName {
        /// Number of the class.
        class: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// A label names no class.
    #[error("label {label} of {split} image {index} is not one of {classes} classes")]
    Label {
        /// Its split.
        split: Split,
        /// Its place in the split.
        index: usize,
        /// The label.
        label: u8,
        /// How many classes there are.
        classes: usize,
    },
    /// Votes of an image that its label does not follow from.
    #[error("the votes of {split} image {index} do not give most to its label {label}")]
    Votes {
        /// Its split.
        split: Split,
        /// Its place in the split.
        index: usize,
        /// The label.
        label: u8,
    },
    /// Some images have votes and some have none, or votes for other classes (in memory only).
    #[error("{split} has {labels} labels of {classes} classes but {votes} votes")]
    VotesLength {
        /// The split.
        split: Split,
        /// Its labels.
        labels: usize,
        /// The classes.
        classes: usize,
        /// Its votes.
        votes: usize,
    },
    /// The labels and the pixels of a split disagree (in memory only).
    #[error("{split} has {labels} labels but {bytes} bytes of pixels")]
    Pixels {
        /// The split.
        split: Split,
        /// Its labels.
        labels: usize,
        /// Its bytes of pixels.
        bytes: usize,
    },
}
