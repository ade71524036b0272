//! Which epoch is the best, and when to stop: Keras' `EarlyStopping` and `ModelCheckpoint(save_best_only)`
//! on validation accuracy, as one small state that survives a resume.

use serde::{Deserialize, Serialize};

use crate::ids::Epoch;

/// The state after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    /// The best epoch so far: the first of those with the highest validation accuracy.
    pub best_epoch: Epoch,
    /// Its validation accuracy, a fraction of 1.
    pub best_valid_accuracy: f64,
    /// Epochs in a row since then.
    pub wait: u32,
}

impl EarlyStopping {
    /// The state after `epoch`, given the state before it (`None` before the first epoch). Only a strictly
    /// greater accuracy improves; NaN never does.
    #[must_use]
    pub fn observe(previous: Option<Self>, epoch: Epoch, valid_accuracy: f64) -> Self {
        match previous {
            Some(state)
                if valid_accuracy <= state.best_valid_accuracy || valid_accuracy.is_nan() =>
            {
                Self {
                    wait: state.wait.saturating_add(1),
                    ..state
                }
            }
            _ => Self {
                best_epoch: epoch,
                best_valid_accuracy: valid_accuracy,
                wait: 0,
            },
        }
    }

    /// Whether training ends here: `patience` epochs in a row without improvement.
    #[must_use]
    pub fn should_stop(&self, patience: u32) -> bool {
        self.wait >= patience.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(accuracies: &[f64]) -> EarlyStopping {
        let mut state = None;
        for (i, &accuracy) in (1..).zip(accuracies) {
            state = Some(EarlyStopping::observe(state, Epoch(i), accuracy));
        }
        state.unwrap()
    }

    #[test]
    fn of_equal_epochs_the_first_is_best() {
        let state = after(&[0.3, 0.5, 0.5, 0.4]);
        assert_eq!((state.best_epoch, state.wait), (Epoch(2), 2));
    }

    #[test]
    fn stops_after_patience_epochs_without_improvement() {
        assert!(!after(&[0.5, 0.4, 0.4]).should_stop(3));
        assert!(after(&[0.5, 0.4, 0.4, 0.5]).should_stop(3));
        assert!(!after(&[0.5, 0.4, 0.4, 0.6]).should_stop(3));
    }
}
