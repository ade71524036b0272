//! What can be wrong with a checkpoint.

use std::io;
use std::path::{Path, PathBuf};

use quartet_shared::label::{MAX_REASON, shortened};
use safetensors::SafeTensorError;

/// Why a checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not in the safetensors format.
    #[error("{} is not a safetensors file", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: SafeTensorError,
    },
    /// The file is of another network or of another run.
    #[error("{} does not fit: {reason}", .path.display(), reason = shortened(.reason, MAX_REASON))]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What is wrong, such as `tensor head.hidden1.dense.weight is missing`.
        reason: String,
    },
}

/// The error that `reason` is wrong with a file.
pub(crate) fn mismatch(path: &Path, reason: &str) -> CheckpointError {
    CheckpointError::Mismatch {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}
