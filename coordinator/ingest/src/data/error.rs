//! What can be wrong with data, said so that a person can act on it.

use std::io;
use std::path::{Path, PathBuf};

use quartet_shared::dataset::Split;
use quartet_shared::picture::PictureError;

/// Why a data set could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file or directory does not exist.
    #[error(
        "{}: no such file or directory; give --data a CSV file or a directory of images",
        .path.display()
    )]
    NotFound {
        /// What was asked for.
        path: PathBuf,
    },
    /// The file or directory cannot be read.
    #[error("{}: cannot be read", .path.display())]
    Io {
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The first line of a CSV file is missing or is not text.
    #[error("{}:1: {problem}; expected a header such as `emotion,pixels,Usage`", .file.display())]
    Header {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// A CSV file lacks a column.
    #[error("{}:1: no column `{column}` in the header, which has: {}", .file.display(), .found.join(", "))]
    MissingColumn {
        /// The file.
        file: PathBuf,
        /// The column.
        column: &'static str,
        /// The columns that it has.
        found: Vec<String>,
    },
    /// A bad row of a CSV file.
    #[error(
        "{}:{line}: {problem}; correct the row, or pass --skip-bad-rows to leave such rows out",
        .file.display()
    )]
    Row {
        /// The file.
        file: PathBuf,
        /// The line as an editor counts: the header is line 1.
        line: u64,
        /// What is wrong.
        problem: RowProblem,
    },
    /// A bad file in a class folder.
    #[error(
        "{}: {problem}; replace or remove it, or pass --skip-bad-rows to leave such files out",
        .file.display()
    )]
    Image {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: PictureError,
    },
    /// A file beside the class folders.
    #[error(
        "{}: a file beside the class folders; move an image into the folder of its class, remove the file, \
         or pass --skip-bad-rows to leave such files out",
        .file.display()
    )]
    Stray {
        /// The file.
        file: PathBuf,
    },
    /// A directory is not laid out as an image folder.
    #[error("{}: {problem}", .path.display())]
    Layout {
        /// The directory.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A split has no image.
    #[error(
        "{origin}: the {split} split has no image; every split needs at least one{}",
        after_skipping(*.skipped)
    )]
    EmptySplit {
        /// Where the images come from.
        origin: String,
        /// The split.
        split: Split,
        /// How many rows or images were left out.
        skipped: usize,
    },
    /// A class has no training image.
    #[error(
        "{origin}: the train split has no image of class `{class}`; add at least one of every class{}",
        after_skipping(*.skipped)
    )]
    MissingClass {
        /// Where the images come from.
        origin: String,
        /// The class.
        class: String,
        /// How many rows or images were left out.
        skipped: usize,
    },
    /// The options ask for a validation split, and there is one.
    #[error(
        "{origin}: --valid-fraction is for data without a validation split, and this has one of {found} \
         images; leave it out, or deal all images anew with --split"
    )]
    HasValid {
        /// Where the images come from.
        origin: String,
        /// Images of the validation split.
        found: usize,
    },
    /// The temporary file of the pixels cannot be written.
    #[error(
        "{}: cannot write the images to a temporary file; make room there, or name another \
         folder with TMPDIR",
        .folder.display()
    )]
    Spool {
        /// The folder of temporary files.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The options ask for a size or for colours, and the images have their own.
    #[error(
        "{origin}: {option} is for folders of image files, and these images have a size of their own and are \
         gray; leave it out"
    )]
    ForImageFiles {
        /// Where the images come from.
        origin: String,
        /// The option.
        option: &'static str,
    },
    /// The options ask for soft labels, and nobody has voted.
    #[error(
        "{origin}: --soft-labels is for FER+'s votes, and these data have one label an image; leave it out, \
         or give --data FER+'s fer2013new.csv"
    )]
    NoVotes {
        /// Where the images come from.
        origin: String,
    },
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    /// It has more or fewer fields than the header.
    #[error("{found} fields where the header has {expected}")]
    Fields {
        /// Fields of the row.
        found: usize,
        /// Columns of the header.
        expected: usize,
    },
    /// A field is not UTF-8.
    #[error("`{0}` is not UTF-8 text")]
    NotUtf8(&'static str),
    /// The emotion is not a class.
    #[error("emotion `{text}` is neither a number from 0 to {last} nor one of {names}")]
    Emotion {
        /// What stands there.
        text: String,
        /// The highest number.
        last: usize,
        /// The classes, the first of them if there are many.
        names: String,
    },
    /// The votes of FER+ are no numbers.
    #[error("`{text}` is no number of votes for {column}")]
    Votes {
        /// What stands there.
        text: String,
        /// Its column.
        column: &'static str,
    },
    /// More votes than a byte counts.
    #[error("{votes} votes for {column}; soft labels take at most 255")]
    TooManyVotes {
        /// The votes.
        votes: usize,
        /// Their column.
        column: &'static str,
    },
    /// A row of FER+'s labels and that of the image say different splits.
    #[error(
        "the usage is not that of the same row of FER+'s labels; both files must have FER2013's order"
    )]
    OtherUsage,
    /// The usage is not a split.
    #[error("usage `{0}` is not Training, PublicTest or PrivateTest")]
    Usage(String),
    /// A pixel is not a number.
    #[error("pixel {index} is `{text}`, not a whole number from 0 to 255")]
    Pixel {
        /// Its place, from 1.
        index: usize,
        /// What stands there.
        text: String,
    },
    /// The first row's pixels make no square.
    #[error("{found} pixels are not a square image (FER2013 has 48 x 48 = 2304)")]
    NotSquare {
        /// Pixels of the row.
        found: usize,
    },
    /// A row has more or fewer pixels than the first.
    #[error("{found} pixels where the rows before have {expected}")]
    PixelCount {
        /// Pixels of the row.
        found: usize,
        /// Pixels of the first row.
        expected: usize,
    },
    /// No line end within the longest row that is read.
    #[error("the line is longer than {limit} bytes")]
    TooLong {
        /// The longest row.
        limit: usize,
    },
}

impl DataError {
    /// The error of reading `path`.
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            _ => Self::Io { path, source },
        }
    }

    /// The message without the advice, for the list of what was left out.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Row {
                file,
                line,
                problem,
            } => format!("{}:{line}: {problem}", file.display()),
            Self::Image { file, problem } => format!("{}: {problem}", file.display()),
            Self::Stray { file } => format!("{}: beside the class folders", file.display()),
            other => other.to_string(),
        }
    }

    /// Whether `--skip-bad-rows` may pass over it.
    pub(super) const fn can_skip(&self) -> bool {
        matches!(
            self,
            Self::Row { .. } | Self::Image { .. } | Self::Stray { .. }
        )
    }
}

fn after_skipping(skipped: usize) -> String {
    match skipped {
        0 => String::new(),
        _ => format!(" ({skipped} bad rows or images were left out by --skip-bad-rows)"),
    }
}
