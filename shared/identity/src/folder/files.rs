//! Files of keys, and their folders.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::KeyError;

/// Removes what is left of a folder when it goes.
pub(super) struct RemoveFolder<'a>(pub(super) &'a Path);

impl Drop for RemoveFolder<'_> {
    fn drop(&mut self) {
        // It has been moved, as a rule.
        let _ = fs::remove_dir_all(self.0);
    }
}

/// Whether something is not there, nor can be.
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Who may read a file.
#[derive(Clone, Copy)]
pub(super) enum Secrecy {
    Public = 0o644,
    Private = 0o600,
}

/// Writes a file, all of it or nothing.
pub(super) fn write(path: &Path, text: &str, secrecy: Secrecy) -> Result<(), KeyError> {
    let new = path.with_extension(format!("new-{:08x}", rand::random::<u32>()));
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(secrecy as u32)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.map_err(|reason| KeyError::File {
        action: "write",
        path: path.to_owned(),
        reason,
    })
}

pub(super) fn read(path: &Path) -> Result<String, KeyError> {
    fs::read_to_string(path).map_err(|reason| KeyError::File {
        action: "read",
        path: path.to_owned(),
        reason,
    })
}

pub(super) fn private_folder(path: &Path) -> Result<(), KeyError> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(|reason| KeyError::File {
        action: "make the folder",
        path: path.to_owned(),
        reason,
    })
}
