//! What is in a directory.

use std::path::{Path, PathBuf};

use quartet_shared::label::one_line;
use quartet_shared::picture::{has_image_name, is_clutter};

use crate::data::DataError;

/// How many names a message shows.
const SHOWN: usize = 8;

/// Something in a directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) is_dir: bool,
}

impl Entry {
    /// Whether it is a file that is named as an image.
    pub(super) fn is_image(&self) -> bool {
        !self.is_dir && has_image_name(&self.path)
    }
}

/// What a directory has, sorted by name, without what is hidden or was left there by a file manager.
pub(super) fn list(directory: &Path) -> Result<Vec<Entry>, DataError> {
    let error = |error| DataError::io(directory, error);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(error)? {
        let entry = entry.map_err(error)?;
        let (path, name) = (
            entry.path(),
            entry.file_name().to_string_lossy().into_owned(),
        );
        if !is_clutter(&name) {
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

/// The first of some names, for a message.
pub(super) fn shown<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.map(one_line).collect();
    let first = names.iter().take(SHOWN).map(|name| &**name);
    let mut shown = first.collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        shown.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    shown
}
