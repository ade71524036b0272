//! Where the images come from: FER2013's CSV files, folders of images, or faces that we draw ourselves.
//!
//! [`load`] packs any of them into a [`Dataset`]. Everything here is synchronous and deterministic: the same
//! files (or the same [`SyntheticSpec`]) always give the same bytes.

mod class_names;
mod csv;
mod deal;
mod error;
mod folder;
mod gather;
mod size;
mod spool;
mod synthetic;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use quartet_shared::dataset::{Channels, Dataset};

pub use class_names::{ClassNames, InvalidClassNames};
pub use deal::{Dealing, InvalidShares, Shares, ValidFraction};
pub use error::{DataError, RowProblem};
pub use size::{InvalidSize, Size};
pub use synthetic::{SIDE as SYNTHETIC_SIDE, SyntheticSpec};

/// File names of FER2013 that a directory is searched for, the best first: those with a `Usage` column.
const KNOWN_CSV: [&str; 3] = ["fer2013.csv", "icml_face_data.csv", "train.csv"];

/// The file name of FER+'s labels.
const FER_PLUS: &str = "fer2013new.csv";

/// How many folders may lie around a data set, each alone in the one around it.
const MAX_WRAPPERS: usize = 3;

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
    /// Which splits the images are dealt to.
    pub dealing: Dealing,
    /// The names of classes that have numbers, if the numbers are not those of FER2013 or RAF-DB.
    pub class_names: Option<ClassNames>,
    /// Size of the packed images of a folder, [`Size::DEFAULT`] if absent. CSV files and drawn faces have
    /// their own.
    pub size: Option<Size>,
    /// Whether the packed images of a folder have colours. CSV files and drawn faces have none.
    pub channels: Channels,
    /// Keep the votes of FER+ as soft labels.
    pub soft_labels: bool,
    /// Keep the pixels in a temporary file, so that data larger than memory can be packed.
    pub spool: bool,
    /// What [`Source::Synthetic`] draws.
    pub synthetic: SyntheticSpec,
}

/// A loaded data set and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Valid, every class present in the training split, no split empty but the test split of data that have
    /// none.
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

/// The flags of a command line that say the same, each after a space.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.dealing {
            Dealing::Own => {}
            Dealing::All(shares) => write!(f, " --split {shares}")?,
            Dealing::Valid(fraction) => write!(f, " --valid-fraction {fraction}")?,
        }
        if let Some(names) = &self.class_names {
            write!(f, " --class-names {names}")?;
        }
        if let Some(size) = &self.size {
            write!(f, " --size {size}")?;
        }
        if self.channels == Channels::Rgb {
            f.write_str(" --channels rgb")?;
        }
        if self.soft_labels {
            f.write_str(" --soft-labels")?;
        }
        if self.skip_bad_rows {
            f.write_str(" --skip-bad-rows")?;
        }
        Ok(())
    }
}

impl Options {
    /// Fails if an option is given that is for image files alone. `origin` names the source, which has none.
    fn refuse_for_image_files(&self, origin: &str) -> Result<(), DataError> {
        let option = match (self.size, self.channels) {
            (Some(_), _) => "--size",
            (None, Channels::Rgb) => "--channels rgb",
            (None, Channels::Gray) => return Ok(()),
        };
        let origin = origin.to_owned();
        Err(DataError::ForImageFiles { origin, option })
    }

    /// Fails if soft labels are asked for. `origin` names the source, which has no votes.
    fn refuse_soft_labels(&self, origin: &str) -> Result<(), DataError> {
        match self.soft_labels {
            true => Err(DataError::NoVotes {
                origin: origin.to_owned(),
            }),
            false => Ok(()),
        }
    }
}

/// Loads a data set into memory, or all but its pixels with [`Options::spool`].
///
/// # Errors
/// See [`DataError`]; its messages name the file, the row where there is one, and what to do.
pub fn load(source: &Source, options: &Options) -> Result<Loaded, DataError> {
    match source {
        Source::Synthetic => synthetic::load(options),
        Source::Path(path) => load_path(path, options),
    }
}

fn load_path(path: &Path, options: &Options) -> Result<Loaded, DataError> {
    let metadata = std::fs::metadata(path).map_err(|error| DataError::io(path, error))?;
    if !metadata.is_dir() {
        return csv::load(path, None, options);
    }
    let mut folder = path.to_owned();
    for _ in 0..=MAX_WRAPPERS {
        if let Some(file) = KNOWN_CSV
            .iter()
            .map(|name| folder.join(name))
            .find(|file| file.is_file())
        {
            return load_csv(&folder, &file, options);
        }
        match folder::find(&folder, options.dealing)? {
            folder::Found::Images(layout) => return folder::load(&layout, options),
            folder::Found::Wrapper(inner) => folder = inner,
        }
    }
    Err(folder::unknown_layout(path))
}

fn load_csv(folder: &Path, file: &Path, options: &Options) -> Result<Loaded, DataError> {
    let test = folder.join("test.csv");
    let test = (file.ends_with("train.csv") && test.is_file()).then_some(test);
    let mut loaded = csv::load(file, test.as_deref(), options)?;
    let fer_plus = folder.join(FER_PLUS);
    if fer_plus.is_file() {
        loaded.warnings.push(format!(
            "{}: not used; give --data this file for FER+'s labels",
            fer_plus.display()
        ));
    }
    Ok(loaded)
}
