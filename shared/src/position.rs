//! How far the training of a run is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::Epoch;

/// So many epochs of a run are done, and so many steps of the next one.
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

    /// Mid-epoch, after so many steps of the epoch.
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
