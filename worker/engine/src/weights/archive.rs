//! A file within a zip archive, read where it lies.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use hdf5_reader::error::{Error, Result};
use hdf5_reader::storage::{DynStorage, Storage, StorageBuffer};
use zip::{CompressionMethod, ZipArchive};

/// The entry of an archive that has this name. Keras does not compress, so that it can be read in place.
///
/// # Errors
/// What is wrong with the archive.
pub(super) fn stored(path: &Path, name: &str) -> std::result::Result<DynStorage, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let wrong = |error: zip::result::ZipError| format!("as a zip archive: {error}");
    let mut archive = ZipArchive::new(&file).map_err(wrong)?;
    let Some(index) = archive.index_for_name(name) else {
        return Err(format!(
            "it is a zip archive without {name}, which .keras files have"
        ));
    };
    let entry = archive.by_index_raw(index).map_err(wrong)?;
    if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
        return Err(format!(
            "its {name} is compressed or encrypted, which Keras does not do; unpack it and name {name} \
             instead"
        ));
    }
    let section = (entry.data_start(), entry.size());
    drop(entry);
    drop(archive);
    let (Some(start), size) = section else {
        return Err(format!("its {name} has no place"));
    };
    if start.checked_add(size).is_none_or(|end| end > length) {
        return Err(format!("its {name} is cut short"));
    }
    Ok(Arc::new(Section { file, start, size }))
}

/// A part of a file.
struct Section {
    file: File,
    start: u64,
    size: u64,
}

impl Storage for Section {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_range(&self, offset: u64, len: usize) -> Result<StorageBuffer> {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(Error::OffsetOutOfBounds(offset));
        }
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, self.start + offset)?;
        Ok(StorageBuffer::from_vec(bytes))
    }
}
