//! The result of a finished run.

use serde::{Deserialize, Serialize};

use crate::early_stopping::EarlyStopping;
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
