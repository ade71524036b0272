//! Folders of images: `train|valid|test/<class>/*`, PNG or JPEG.
//!
//! A class folder is named by an emotion or by its number in FER2013 (0 angry to 6 neutral; names are NOT
//! sorted, as Keras would). If no folder is named so, any names do, in sorted order. Images become gray
//! (luma) and are stretched to the packed size; those that have it already are kept as they are.

mod classes;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use quartet_shared::dataset::Split;
use quartet_shared::picture::{Picture, PictureError, has_image_name};

use self::classes::Classes;
use super::gather::Gather;
use super::{DEFAULT_SIDE, DataError, Loaded, Options};

/// Names of the split folders, without regard to case.
const SPLIT_NAMES: [&[&str]; 3] = [
    &["train", "training"],
    &["valid", "validation", "val", "publictest"],
    &["test", "testing", "privatetest"],
];

/// Something in a directory.
struct Entry {
    name: String,
    path: PathBuf,
    is_dir: bool,
}

/// Loads the image folders under `root`.
pub(super) fn load(root: &Path, options: &Options) -> Result<Loaded, DataError> {
    let side = options.size.unwrap_or(DEFAULT_SIDE);
    if side == 0 {
        return Err(DataError::ZeroSize);
    }
    let mut gather = Gather::new(options.skip_bad_rows);
    let mut folders = Vec::new();
    for (split, folder) in Split::ALL.into_iter().zip(find_splits(root)?) {
        for entry in list(&folder)? {
            if entry.is_dir {
                folders.push((split, entry));
            } else {
                gather.bad(not_an_image(entry.path))?;
            }
        }
    }
    let classes = Classes::new(folders.iter().map(|(_, folder)| folder.name.as_str())).map_err(
        |problem| DataError::Layout {
            path: root.to_owned(),
            problem,
        },
    )?;
    for (split, folder) in folders {
        let label = classes.label(&folder.name);
        for entry in list(&folder.path)? {
            match read_image(entry, side) {
                Ok(pixels) => gather.push(split, label, &pixels),
                Err(error) => gather.bad(error)?,
            }
        }
    }
    gather.finish(&root.display().to_string(), side, classes.into_names())
}

/// The folders of the splits, in their order.
fn find_splits(root: &Path) -> Result<[PathBuf; 3], DataError> {
    let layout = |problem| DataError::Layout {
        path: root.to_owned(),
        problem,
    };
    let mut found = [const { None }; 3];
    for entry in list(root)?.into_iter().filter(|entry| entry.is_dir) {
        let name = entry.name.to_lowercase();
        let Some(split) = SPLIT_NAMES
            .iter()
            .position(|names| names.contains(&name.as_str()))
        else {
            continue;
        };
        if found[split].replace(entry.path).is_some() {
            let split = Split::ALL[split];
            return Err(layout(format!(
                "more than one folder for the {split} split; keep one"
            )));
        }
    }
    match found {
        [Some(train), Some(valid), Some(test)] => Ok([train, valid, test]),
        [None, None, None] => Err(layout(
            "neither a known CSV file (fer2013.csv, icml_face_data.csv, train.csv) \
             nor folders train, valid and test in this directory"
                .to_owned(),
        )),
        found => {
            let missing = found.iter().position(Option::is_none).unwrap_or(0);
            let split = Split::ALL[missing];
            let advice = match split {
                Split::Train => "training needs it",
                Split::Valid => "the best epoch is chosen on it: move a part of train there",
                Split::Test => "the final evaluation needs it: move a part of train there",
            };
            let names = SPLIT_NAMES[missing].join(", ");
            Err(layout(format!(
                "no folder for the {split} split ({names}); {advice}"
            )))
        }
    }
}

fn read_image(entry: Entry, side: u16) -> Result<Vec<u8>, DataError> {
    if entry.is_dir || !has_image_name(&entry.path) {
        return Err(not_an_image(entry.path));
    }
    let bytes = std::fs::read(&entry.path).map_err(|error| DataError::io(&entry.path, error))?;
    let picture = Picture::decode(&bytes).map_err(|problem| DataError::Image {
        file: entry.path,
        problem,
    })?;
    Ok(picture.resized(side, side).pixels().to_vec())
}

fn not_an_image(file: PathBuf) -> DataError {
    DataError::Image {
        file,
        problem: PictureError::NotAnImage,
    }
}

/// What a directory has, sorted by name, without hidden entries.
fn list(directory: &Path) -> Result<Vec<Entry>, DataError> {
    let error = |error| DataError::io(directory, error);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(error)? {
        let entry = entry.map_err(error)?;
        let (path, name) = (
            entry.path(),
            entry.file_name().to_string_lossy().into_owned(),
        );
        if !name.starts_with('.') {
            // Follows links, which a directory entry's own type does not.
            entries.push(Entry {
                name,
                is_dir: path.is_dir(),
                path,
            });
        }
    }
    entries.sort_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
    Ok(entries)
}
