//! What a worker reports while it works.

use serde::{Deserialize, Serialize};

use crate::ids::Epoch;

/// What a worker is doing within its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Fetching data and weights, building the model.
    Preparing,
    /// Training steps of an epoch.
    Training,
    /// Validation after an epoch.
    Validating,
    /// Computing the ensemble's predictions.
    Evaluating,
    /// Waiting for the last checkpoints to be committed.
    Uploading,
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// The epoch in progress; 0 outside training.
    pub epoch: Epoch,
    /// The epochs that the run has at most; 0 outside training.
    pub epochs: u32,
    /// Steps (batches) done in this phase of the epoch.
    pub step: u32,
    /// Steps that this phase of the epoch has.
    pub steps: u32,
    /// Speed of the current phase.
    pub images_per_second: f64,
    /// The part of the phase's time in which the device waited for its input; `None` from older workers.
    pub input_wait: Option<f64>,
    /// Mean training loss of the epoch so far.
    pub loss: Option<f64>,
    /// Training accuracy of the epoch so far, a fraction of 1.
    pub accuracy: Option<f64>,
}

impl Progress {
    /// Before the first step of a task whose run has at most `epochs` epochs.
    #[must_use]
    pub fn preparing(epochs: u32) -> Self {
        Self {
            phase: Phase::Preparing,
            epoch: Epoch(0),
            epochs,
            step: 0,
            steps: 0,
            images_per_second: 0.0,
            input_wait: None,
            loss: None,
            accuracy: None,
        }
    }
}

/// Means over one whole epoch; accuracies are fractions of 1, losses categorical cross-entropy in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Training loss, dropout and augmentation on.
    #[serde(with = "loss")]
    pub train_loss: f64,
    /// Training accuracy, dropout and augmentation on.
    pub train_accuracy: f64,
    /// Validation loss.
    #[serde(with = "loss")]
    pub valid_loss: f64,
    /// Validation accuracy: what early stopping and the choice of the best epoch watch.
    pub valid_accuracy: f64,
    /// Training images per second.
    pub images_per_second: f64,
    /// Wall time of the epoch in seconds, validation included.
    pub seconds: f64,
}

/// A loss in JSON: a number, or `"NaN"`, `"inf"`, `"-inf"`, for which JSON has none. A run that diverges must
/// not make a manifest that cannot be read.
mod loss {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Loss {
        Number(f64),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(loss: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if loss.is_finite() {
            return loss.serialize(serializer);
        }
        loss.to_string().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match Loss::deserialize(deserializer)? {
            Loss::Number(loss) => Ok(loss),
            Loss::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_a_run_that_diverged_survive_json() {
        let metrics = EpochMetrics {
            train_loss: f64::NAN,
            train_accuracy: 0.1,
            valid_loss: f64::INFINITY,
            valid_accuracy: 0.2,
            images_per_second: 3.0,
            seconds: 4.0,
        };
        let json = serde_json::to_string(&metrics).unwrap();
        let back: EpochMetrics = serde_json::from_str(&json).unwrap();
        assert!(back.train_loss.is_nan());
        assert_eq!(
            EpochMetrics {
                train_loss: 0.5,
                ..back
            },
            EpochMetrics {
                train_loss: 0.5,
                ..metrics
            }
        );
        let json = serde_json::to_string(&EpochMetrics {
            train_loss: 1.5,
            ..metrics
        })
        .unwrap();
        assert!(json.contains("\"train_loss\":1.5,"), "{json}");
    }
}
