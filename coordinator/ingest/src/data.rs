//! Where the images come from: FER2013's CSV files, folders of images, or faces that we draw ourselves.
//!
//! [`load`] packs any of them into a [`Dataset`]. Everything here is synchronous and deterministic: the same
//! files (or the same [`SyntheticSpec`]) always give the same bytes.

mod csv;
mod error;
mod folder;
mod gather;
mod synthetic;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use quartet_shared::dataset::Dataset;

pub use error::{DataError, RowProblem};
pub use synthetic::{SIDE as SYNTHETIC_SIDE, SyntheticSpec};

/// Side of the packed images of a folder when the options name none: FER2013's.
pub const DEFAULT_SIDE: u16 = 48;

/// File names of FER2013 that a directory is searched for, the best first: those with a `Usage` column.
const KNOWN_CSV: [&str; 3] = ["fer2013.csv", "icml_face_data.csv", "train.csv"];

/// Where to load from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The built-in drawn faces.
    Synthetic,
    /// A CSV file, a directory with FER2013's CSV files, or a directory of image folders.
    Path(PathBuf),
}

/// How to load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Leave bad rows and unreadable images out, instead of stopping at the first.
    pub skip_bad_rows: bool,
    /// Side of the packed images of a folder, [`DEFAULT_SIDE`] if absent. CSV files and drawn faces have
    /// their own.
    pub size: Option<u16>,
    /// What [`Source::Synthetic`] draws.
    pub synthetic: SyntheticSpec,
}

/// A loaded data set and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Valid, no split empty, every class present in the training split.
    pub dataset: Dataset,
    /// How many rows or images were left out under [`Options::skip_bad_rows`].
    pub skipped: usize,
    /// What the user should know, for the caller to log; among it what was wrong with the first skipped rows.
    pub warnings: Vec<String>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Synthetic => f.write_str("synthetic faces"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// Loads a data set into memory.
///
/// # Errors
/// See [`DataError`]; its messages name the file, the row where there is one, and what to do.
pub fn load(source: &Source, options: &Options) -> Result<Loaded, DataError> {
    match source {
        Source::Synthetic => synthetic::load(&options.synthetic),
        Source::Path(path) => load_path(path, options),
    }
}

fn load_path(path: &Path, options: &Options) -> Result<Loaded, DataError> {
    let metadata = std::fs::metadata(path).map_err(|error| DataError::io(path, error))?;
    if !metadata.is_dir() {
        return csv::load(path, None, options);
    }
    let Some(file) = KNOWN_CSV
        .iter()
        .map(|name| path.join(name))
        .find(|file| file.is_file())
    else {
        return folder::load(path, options);
    };
    let test = path.join("test.csv");
    let test = (file.ends_with("train.csv") && test.is_file()).then_some(test);
    csv::load(&file, test.as_deref(), options)
}
