//! Checkpoints on their way from the executor to the disk.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use quartet_shared::blob::Blob;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::Epoch;
use quartet_shared::position::Position;
use quartet_shared::progress::EpochMetrics;

/// A state of training that is to be kept.
#[derive(Debug)]
pub struct Checkpoint {
    /// What it is the state after.
    pub moment: Moment,
    /// The state to be written.
    pub snapshot: Box<dyn Snapshot>,
}

/// What a checkpoint is the state after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    /// A whole epoch.
    EpochEnd {
        /// The epoch.
        epoch: Epoch,
        /// Its metrics.
        metrics: EpochMetrics,
        /// Early stopping after it.
        early_stopping: EarlyStopping,
    },
    /// A step of an unfinished epoch. After the last step the validation is still to be done.
    MidEpoch(Position),
}

impl Moment {
    /// The position that a resume names.
    #[must_use]
    pub fn position(&self) -> Position {
        match *self {
            Self::EpochEnd { epoch, .. } => Position::end_of(epoch),
            Self::MidEpoch(position) => position,
        }
    }
}

/// A state of training that can be written. Writing blocks, and happens on another thread than training.
pub trait Snapshot: fmt::Debug + Send {
    /// Writes a file of weights and one of training state to `folder`, each whole or not at all. Their names
    /// begin with `stem`, which no other checkpoint has. An error leaves neither file behind.
    ///
    /// # Errors
    /// The files cannot be written or read back.
    fn write(self: Box<Self>, folder: &Path, stem: &str) -> Result<CheckpointFiles, SnapshotError>;
}

/// Why a snapshot cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", .path.display())]
pub struct SnapshotError {
    /// What cannot be done, such as "write".
    pub action: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

/// The two files of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointFiles {
    /// The weights.
    pub weights: WrittenFile,
    /// The training state.
    pub training_state: WrittenFile,
}

/// A file with the size and checksum of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    /// The file.
    pub path: PathBuf,
    /// Size and checksum.
    pub blob: Blob,
}
