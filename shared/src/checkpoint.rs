//! Manifests: what the store says about a committed epoch and about a finished run.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::early_stopping::EarlyStopping;
use crate::ids::{Attempt, Epoch, RunName, Term, WorkerId};
use crate::progress::EpochMetrics;

/// A SHA-256 checksum; hexadecimal in JSON and on display.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum(pub [u8; 32]);

impl Checksum {
    /// The checksum of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Checksum> for String {
    fn from(sum: Checksum) -> String {
        sum.to_string()
    }
}

impl TryFrom<String> for Checksum {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(&text, &mut bytes)
            .map_err(|e| format!("{text:?} is not a SHA-256 checksum: {e}"))?;
        Ok(Self(bytes))
    }
}

/// Size and checksum of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Size in bytes.
    pub size: u64,
    /// Checksum of the bytes.
    pub sha256: Checksum,
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes with SHA-256 {}", self.size, self.sha256)
    }
}

/// An object of the store with the size and checksum that its bytes must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    /// Its key in the store.
    pub key: String,
    /// Its size and checksum.
    #[serde(flatten)]
    pub blob: Blob,
}

/// How far the training of a run is: so many epochs are done, and so many steps of the next one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// Epochs that are done, 0 for none.
    pub epoch: Epoch,
    /// Steps that are done of the epoch after them, 0 for none.
    pub step: u32,
}

impl Position {
    /// The end of an epoch.
    #[must_use]
    pub fn end_of(epoch: Epoch) -> Self {
        Self { epoch, step: 0 }
    }

    /// Within an epoch, after so many of its steps.
    #[must_use]
    pub fn within(epoch: Epoch, step: u32) -> Self {
        Self {
            epoch: Epoch(epoch.0.saturating_sub(1)),
            step,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.epoch, self.step) {
            (epoch, 0) => write!(f, "epoch {epoch}"),
            (epoch, step) => write!(f, "epoch {}, step {step}", epoch.next()),
        }
    }
}

/// The manifest of a committed epoch, at [`crate::layout::Layout::manifest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The run.
    pub run: RunName,
    /// The epoch that this checkpoint is the end of.
    pub epoch: Epoch,
    /// The attempt that trained it.
    pub attempt: Attempt,
    /// The worker that trained it.
    pub worker: WorkerId,
    /// The epoch's metrics.
    pub metrics: EpochMetrics,
    /// Best epoch and patience after it.
    pub early_stopping: EarlyStopping,
    /// The weights: safetensors, one tensor per parameter and running statistic.
    pub weights: BlobRef,
    /// The rest of what a resume needs: optimizer moments and counters, as safetensors.
    pub training_state: BlobRef,
}

/// The manifest of a state within an epoch, at [`crate::layout::Layout::step_manifest`]. It lasts until a later one is
/// committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepManifest {
    /// The run.
    pub run: RunName,
    /// What it is the state after.
    pub position: Position,
    /// The attempt that trained it.
    pub attempt: Attempt,
    /// The worker that trained it.
    pub worker: WorkerId,
    /// The weights.
    pub weights: BlobRef,
    /// The rest of what a resume needs, with the sums that the epoch's metrics will be made of.
    pub training_state: BlobRef,
}

/// The record of a lease, at [`crate::layout::Layout::attempt`]: written before the worker hears of it, so that no
/// coordinator gives the same attempt again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The fencing token.
    pub attempt: Attempt,
    /// Who holds the lease.
    pub worker: WorkerId,
    /// The worker's name for people.
    pub name: String,
    /// The coordinator that gave it.
    pub term: Term,
    /// Where the worker goes on from; the end of epoch 0 for a fresh start.
    pub resume: Position,
    /// Seconds since the Unix epoch.
    pub granted_at: u64,
}

/// Why a run's training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// All epochs of the spec are trained.
    Epochs,
    /// Validation accuracy did not improve for `patience` epochs.
    EarlyStopping,
}

/// The result of a finished run, at [`crate::layout::Layout::outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Epochs trained.
    pub epochs: u32,
    /// The epoch whose weights join the ensemble.
    pub best_epoch: Epoch,
    /// Its validation accuracy, a fraction of 1.
    pub best_valid_accuracy: f64,
    /// Why training ended.
    pub stop_reason: StopReason,
}

impl Outcome {
    /// The result of a run of at most `epochs` epochs, if `epoch` is its last; `state` is the state of
    /// early stopping after it. This is the one place that decides whether a run is trained.
    #[must_use]
    pub fn after(epoch: Epoch, state: EarlyStopping, epochs: u32, patience: u32) -> Option<Self> {
        let stop_reason = if state.should_stop(patience) {
            StopReason::EarlyStopping
        } else if epoch.0 >= epochs {
            StopReason::Epochs
        } else {
            return None;
        };
        Some(Self {
            epochs: epoch.0,
            best_epoch: state.best_epoch,
            best_valid_accuracy: state.best_valid_accuracy,
            stop_reason,
        })
    }
}
