//! Blobs and results of training.

use bytes::Bytes;
use quartet_proto::v1;

use super::{WireError, count, epoch, fraction};
use crate::blob::{Blob, Checksum};
use crate::ids::Epoch;
use crate::outcome::{Outcome, StopReason};
use crate::position::Position;

impl From<Blob> for v1::Blob {
    fn from(blob: Blob) -> Self {
        Self {
            size: blob.size,
            sha256: Bytes::copy_from_slice(&blob.sha256.0),
        }
    }
}

impl TryFrom<v1::Blob> for Blob {
    type Error = WireError;

    fn try_from(blob: v1::Blob) -> Result<Self, WireError> {
        let bytes: [u8; 32] = blob.sha256[..]
            .try_into()
            .map_err(|_| WireError::Checksum {
                field: "sha256",
                found: blob.sha256.len(),
            })?;
        Ok(Self {
            size: blob.size,
            sha256: Checksum(bytes),
        })
    }
}

impl From<Position> for v1::Position {
    fn from(position: Position) -> Self {
        Self {
            epoch: position.epoch.0,
            step: position.step,
        }
    }
}

impl TryFrom<v1::Position> for Position {
    type Error = WireError;

    fn try_from(position: v1::Position) -> Result<Self, WireError> {
        Ok(Self {
            epoch: Epoch(count(position.epoch, "epoch")?),
            step: count(position.step, "step")?,
        })
    }
}

impl From<StopReason> for v1::StopReason {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Epochs => Self::Epochs,
            StopReason::EarlyStopping => Self::EarlyStopping,
        }
    }
}

impl TryFrom<v1::StopReason> for StopReason {
    type Error = WireError;

    fn try_from(reason: v1::StopReason) -> Result<Self, WireError> {
        match reason {
            v1::StopReason::Epochs => Ok(Self::Epochs),
            v1::StopReason::EarlyStopping => Ok(Self::EarlyStopping),
            v1::StopReason::Unspecified => Err(WireError::Enum {
                field: "stop_reason",
                value: 0,
            }),
        }
    }
}

impl From<Outcome> for v1::TrainingOutcome {
    fn from(outcome: Outcome) -> Self {
        Self {
            epochs: outcome.epochs,
            best_epoch: outcome.best_epoch.0,
            best_valid_accuracy: outcome.best_valid_accuracy,
            stop_reason: v1::StopReason::from(outcome.stop_reason).into(),
        }
    }
}

impl TryFrom<v1::TrainingOutcome> for Outcome {
    type Error = WireError;

    fn try_from(outcome: v1::TrainingOutcome) -> Result<Self, WireError> {
        let value = outcome.stop_reason;
        let stop_reason = v1::StopReason::try_from(value).map_err(|_| WireError::Enum {
            field: "stop_reason",
            value,
        })?;
        let best_epoch = epoch(outcome.best_epoch, "best_epoch")?;
        if outcome.best_epoch > outcome.epochs {
            let value = f64::from(outcome.best_epoch);
            return Err(WireError::Range {
                field: "best_epoch",
                range: "a trained epoch",
                value,
            });
        }
        Ok(Self {
            epochs: outcome.epochs,
            best_epoch,
            best_valid_accuracy: fraction(outcome.best_valid_accuracy, "best_valid_accuracy")?,
            stop_reason: stop_reason.try_into()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_survive_the_wire() {
        let blob = Blob {
            size: 3,
            sha256: Checksum::of(b"abc"),
        };
        assert_eq!(Blob::try_from(v1::Blob::from(blob)), Ok(blob));
        let short = v1::Blob {
            size: 3,
            sha256: Bytes::from_static(&[0; 31]),
        };
        assert_eq!(
            Blob::try_from(short).unwrap_err().to_string(),
            "sha256 has 31 bytes, not 32"
        );
    }

    #[test]
    fn positions_can_be_counted_on() {
        let position = v1::Position {
            epoch: 1_000_000_000,
            step: 0,
        };
        assert!(Position::try_from(position).is_ok());
        for (epoch, step) in [(u32::MAX, 0), (0, u32::MAX)] {
            assert!(Position::try_from(v1::Position { epoch, step }).is_err());
        }
    }

    #[test]
    fn outcomes_survive_the_wire() {
        for stop_reason in [StopReason::Epochs, StopReason::EarlyStopping] {
            let outcome = Outcome {
                epochs: 14,
                best_epoch: Epoch(4),
                best_valid_accuracy: 0.5,
                stop_reason,
            };
            assert_eq!(
                Outcome::try_from(v1::TrainingOutcome::from(outcome)),
                Ok(outcome)
            );
        }
    }

    #[test]
    fn impossible_outcomes_are_refused() {
        let good = v1::TrainingOutcome {
            epochs: 4,
            best_epoch: 4,
            best_valid_accuracy: 0.5,
            stop_reason: 1,
        };
        Outcome::try_from(good).unwrap();
        let wrong = [
            v1::TrainingOutcome {
                best_epoch: 0,
                ..good
            },
            v1::TrainingOutcome {
                best_epoch: 5,
                ..good
            },
            v1::TrainingOutcome {
                best_valid_accuracy: f64::NAN,
                ..good
            },
            v1::TrainingOutcome {
                stop_reason: 0,
                ..good
            },
            v1::TrainingOutcome {
                stop_reason: 3,
                ..good
            },
        ];
        for outcome in wrong {
            assert!(Outcome::try_from(outcome).is_err(), "{outcome:?}");
        }
    }
}
