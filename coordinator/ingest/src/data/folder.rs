//! Folders of images: `train|valid|test/<class>/*`, or `<class>/*` to be dealt to splits.
//!
//! A class folder is named by an emotion, by a number of FER2013 or RAF-DB, or by any name: see `classes`.
//! Names are NOT sorted, as Keras would, if they are those of emotions. Images become gray (luma)
//! unless colours are asked for, and are stretched to the packed size; those that have it already are kept as
//! they are.

mod classes;
mod entries;
mod layout;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use quartet_shared::dataset::{Channels, Split};
use quartet_shared::picture::{Picture, PictureError, has_image_name};

use self::classes::Classes;
use self::entries::{Entry, list};
use super::deal::Key;
use super::gather::Gather;
use super::{DataError, Loaded, Options, Size};

pub(super) use layout::{Found, Layout, find, unknown_layout};

/// Loads the images of a directory that [`find`] has looked at.
pub(super) fn load(layout: &Layout, options: &Options) -> Result<Loaded, DataError> {
    let root = &layout.root;
    let origin = root.display().to_string();
    options.refuse_soft_labels(&origin)?;
    let size = options.size.unwrap_or(Size::DEFAULT);
    let mut gather = Gather::new(options)?;
    let mut folders = Vec::new();
    for (split, folder) in &layout.splits {
        for entry in list(folder)? {
            if entry.is_dir {
                folders.push((*split, entry));
            } else if folder != root || entry.is_image() {
                gather.bad(DataError::Stray { file: entry.path })?;
            }
        }
    }
    let names: Vec<(Split, &str)> = folders
        .iter()
        .map(|(split, folder)| (*split, folder.name.as_str()))
        .collect();
    let named = options.class_names.as_ref().map(|names| names.as_slice());
    let classes = Classes::new(&names, named).map_err(|problem| DataError::Layout {
        path: root.clone(),
        problem,
    })?;
    if let Some(warning) = &classes.warning {
        gather.warn(format!("{}: {warning}", root.display()));
    }
    for (split, folder) in folders {
        let label = classes.label(&folder.name);
        for entry in list(&folder.path)? {
            let split = match layout.is_kaggles && split == Split::Test {
                true => layout::fer2013_split(&entry.name).unwrap_or(split),
                false => split,
            };
            let name = entry.name.clone();
            match read_image(entry, size, options.channels) {
                Ok(picture) => gather.push(split, label, Key::File(&name), picture.pixels())?,
                Err(error) => gather.bad(error)?,
            }
        }
    }
    let has_test = layout.splits.iter().any(|(split, _)| *split == Split::Test);
    gather.finish(
        &origin,
        [size.height(), size.width()],
        classes.names,
        has_test,
    )
}

fn read_image(entry: Entry, size: Size, channels: Channels) -> Result<Picture, DataError> {
    if entry.is_dir || !has_image_name(&entry.path) {
        return Err(not_an_image(entry.path));
    }
    let bytes = std::fs::read(&entry.path).map_err(|error| DataError::io(&entry.path, error))?;
    let picture = Picture::decode(&bytes, channels).map_err(|problem| DataError::Image {
        file: entry.path,
        problem,
    })?;
    Ok(picture.resized(size.height().into(), size.width().into()))
}

fn not_an_image(file: PathBuf) -> DataError {
    DataError::Image {
        file,
        problem: PictureError::NotAnImage,
    }
}
