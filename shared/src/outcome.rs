//! The result of a finished run.

use serde::{Deserialize, Serialize};

use crate::ids::Epoch;

/// Why a run's training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// All epochs of the spec are trained.
    Epochs,
    /// Validation accuracy did not improve for `patience` epochs.
    EarlyStopping,
}

/// The result of a finished run.
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
