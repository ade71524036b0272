//! The cache of the Hugging Face tools: who else writes there must be understood, and must understand us.
//!
//! ```text
//! models--OWNER--NAME/refs/<revision>             the commit that a branch or tag stood for
//! models--OWNER--NAME/snapshots/<commit>/<file>   a link to
//! models--OWNER--NAME/blobs/<etag>                the bytes; the etag of a large file is its SHA-256
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use quartet_shared::blob::Checksum;
use quartet_shared::spec::HubFile;

const BLOBS: &str = "blobs";

/// What the cache has of one model.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(super) fn new(folder: &Path, repository: &str) -> Self {
        let name = format!("models--{}", repository.replace('/', "--"));
        Self {
            folder: folder.join(name),
        }
    }

    /// A file at its revision, where the cache has it.
    ///
    /// hf-hub's own lookup finds a commit only by a file in `refs`, which Python's tools do not write for
    /// commits.
    pub(super) fn find(&self, file: &HubFile) -> Option<PathBuf> {
        let revision = file.revision();
        let commit = match fs::read_to_string(self.folder.join("refs").join(revision)) {
            Ok(commit) => commit.trim().to_owned(),
            Err(_) => revision.to_owned(),
        };
        let path = self.folder.join("snapshots").join(commit).join(file.file());
        path.is_file().then_some(path)
    }
}

/// Removes `path` where it is a link to a blob that is gone: hf-hub does not replace such a link, and fails.
pub(super) fn unlink_dangling(path: &Path) -> io::Result<()> {
    if path.is_symlink() && !path.exists() {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Makes `path`, a file of a snapshot, a link to the blob `etag`. The model's folder lies `depth` folders
/// above the file's.
pub(super) fn link(path: &Path, depth: usize, etag: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let up: PathBuf = std::iter::repeat_n("..", depth).collect();
    match std::os::unix::fs::symlink(up.join(BLOBS).join(etag), path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// The SHA-256 that a file of the cache was published with, where it is a link to a large file's blob.
pub(super) fn published_checksum(path: &Path) -> Option<Checksum> {
    let blob = path.canonicalize().ok()?;
    if blob.parent()?.file_name()? != BLOBS {
        return None;
    }
    let etag = blob.file_name()?.to_str()?;
    Checksum::try_from(etag.to_owned()).ok()
}

/// Removes a file of the cache with its blob.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path.canonicalize()?)?;
    unlink_dangling(path)
}
