//! Progress and metrics.

use quartet_proto::v1;

use super::{WireError, amount, count, epoch, fraction};
use crate::early_stopping::EarlyStopping;
use crate::ids::Epoch;
use crate::progress::{EpochMetrics, Phase, Progress};

impl From<Phase> for v1::Phase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Preparing => Self::Preparing,
            Phase::Training => Self::Training,
            Phase::Validating => Self::Validating,
            Phase::Evaluating => Self::Evaluating,
            Phase::Uploading => Self::Uploading,
        }
    }
}

impl TryFrom<v1::Phase> for Phase {
    type Error = WireError;

    fn try_from(phase: v1::Phase) -> Result<Self, WireError> {
        match phase {
            v1::Phase::Preparing => Ok(Self::Preparing),
            v1::Phase::Training => Ok(Self::Training),
            v1::Phase::Validating => Ok(Self::Validating),
            v1::Phase::Evaluating => Ok(Self::Evaluating),
            v1::Phase::Uploading => Ok(Self::Uploading),
            v1::Phase::Unspecified => Err(WireError::Enum {
                field: "phase",
                value: 0,
            }),
        }
    }
}

/// Without a lease; see [`super::progress_message`].
impl From<Progress> for v1::Progress {
    fn from(progress: Progress) -> Self {
        Self {
            lease: None,
            phase: v1::Phase::from(progress.phase).into(),
            epoch: progress.epoch.0,
            epochs: progress.epochs,
            step: progress.step,
            steps: progress.steps,
            images_per_second: progress.images_per_second,
            input_wait: progress.input_wait,
            loss: progress.loss,
            accuracy: progress.accuracy,
        }
    }
}

/// Ignores the lease; see [`super::lease_and_progress`]. The loss can be any number: a run that diverges is
/// to be seen.
impl TryFrom<v1::Progress> for Progress {
    type Error = WireError;

    fn try_from(progress: v1::Progress) -> Result<Self, WireError> {
        let value = progress.phase;
        let phase = v1::Phase::try_from(value).map_err(|_| WireError::Enum {
            field: "phase",
            value,
        })?;
        Ok(Self {
            phase: phase.try_into()?,
            epoch: Epoch(count(progress.epoch, "epoch")?),
            epochs: progress.epochs,
            step: progress.step,
            steps: progress.steps,
            images_per_second: amount(progress.images_per_second, "images_per_second")?,
            input_wait: progress
                .input_wait
                .map(|value| fraction(value, "input_wait"))
                .transpose()?,
            loss: progress.loss,
            accuracy: progress
                .accuracy
                .map(|value| fraction(value, "accuracy"))
                .transpose()?,
        })
    }
}

impl From<EpochMetrics> for v1::EpochMetrics {
    fn from(metrics: EpochMetrics) -> Self {
        Self {
            train_loss: metrics.train_loss,
            train_accuracy: metrics.train_accuracy,
            valid_loss: metrics.valid_loss,
            valid_accuracy: metrics.valid_accuracy,
            images_per_second: metrics.images_per_second,
            seconds: metrics.seconds,
        }
    }
}

/// Losses can be NaN or infinite, where a run diverges; accuracies cannot.
impl TryFrom<v1::EpochMetrics> for EpochMetrics {
    type Error = WireError;

    fn try_from(metrics: v1::EpochMetrics) -> Result<Self, WireError> {
        Ok(Self {
            train_loss: metrics.train_loss,
            train_accuracy: fraction(metrics.train_accuracy, "train_accuracy")?,
            valid_loss: metrics.valid_loss,
            valid_accuracy: fraction(metrics.valid_accuracy, "valid_accuracy")?,
            images_per_second: amount(metrics.images_per_second, "images_per_second")?,
            seconds: amount(metrics.seconds, "seconds")?,
        })
    }
}

impl From<EarlyStopping> for v1::EarlyStopping {
    fn from(state: EarlyStopping) -> Self {
        Self {
            best_epoch: state.best_epoch.0,
            best_valid_accuracy: state.best_valid_accuracy,
            wait: state.wait,
        }
    }
}

impl TryFrom<v1::EarlyStopping> for EarlyStopping {
    type Error = WireError;

    fn try_from(state: v1::EarlyStopping) -> Result<Self, WireError> {
        Ok(Self {
            best_epoch: epoch(state.best_epoch, "best_epoch")?,
            best_valid_accuracy: fraction(state.best_valid_accuracy, "best_valid_accuracy")?,
            wait: count(state.wait, "wait")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Attempt;
    use crate::task::{LeaseId, Task};
    use crate::wire::{lease_and_progress, progress_message};

    const METRICS: EpochMetrics = EpochMetrics {
        train_loss: 1.5,
        train_accuracy: 0.25,
        valid_loss: 1.25,
        valid_accuracy: 1.0,
        images_per_second: 12.5,
        seconds: 3.0,
    };

    fn progress(phase: Phase) -> Progress {
        Progress {
            phase,
            epoch: Epoch(2),
            epochs: 50,
            step: 3,
            steps: 10,
            images_per_second: 12.5,
            input_wait: Some(0.25),
            loss: Some(1.5),
            accuracy: None,
        }
    }

    #[test]
    fn progress_survives_the_wire_with_its_lease() {
        let lease = LeaseId {
            experiment: "x-1".parse().unwrap(),
            task: Task::Evaluate,
            attempt: Attempt(1),
            worker: "w".parse().unwrap(),
        };
        let phases = [
            Phase::Preparing,
            Phase::Training,
            Phase::Validating,
            Phase::Evaluating,
            Phase::Uploading,
        ];
        for progress in phases.map(progress) {
            let message = progress_message(&lease, &progress);
            assert_eq!(lease_and_progress(message), Ok((lease.clone(), progress)));
            let without = v1::Progress::from(progress);
            assert_eq!(
                lease_and_progress(without.clone()),
                Err(WireError::Missing("lease"))
            );
            assert_eq!(Progress::try_from(without), Ok(progress));
        }
    }

    #[test]
    fn a_phase_that_is_none_is_refused() {
        for value in [0, 99] {
            let message = v1::Progress {
                phase: value,
                ..progress(Phase::Training).into()
            };
            assert_eq!(
                Progress::try_from(message),
                Err(WireError::Enum {
                    field: "phase",
                    value
                })
            );
        }
    }

    #[test]
    fn metrics_survive_the_wire_and_losses_may_diverge() {
        assert_eq!(
            EpochMetrics::try_from(v1::EpochMetrics::from(METRICS)),
            Ok(METRICS)
        );
        let diverged = EpochMetrics {
            train_loss: f64::NAN,
            valid_loss: f64::INFINITY,
            ..METRICS
        };
        let back = EpochMetrics::try_from(v1::EpochMetrics::from(diverged)).unwrap();
        assert!(back.train_loss.is_nan() && back.valid_loss.is_infinite());
    }

    #[test]
    fn accuracies_and_speeds_that_are_none_are_refused() {
        let wrong = [
            EpochMetrics {
                valid_accuracy: f64::NAN,
                ..METRICS
            },
            EpochMetrics {
                train_accuracy: 1.5,
                ..METRICS
            },
            EpochMetrics {
                images_per_second: f64::INFINITY,
                ..METRICS
            },
            EpochMetrics {
                seconds: -1.0,
                ..METRICS
            },
        ];
        for metrics in wrong {
            assert!(EpochMetrics::try_from(v1::EpochMetrics::from(metrics)).is_err());
        }
        let message = v1::Progress {
            accuracy: Some(72.0),
            ..progress(Phase::Training).into()
        };
        assert!(Progress::try_from(message).is_err());
    }

    #[test]
    fn early_stopping_survives_the_wire() {
        let state = EarlyStopping {
            best_epoch: Epoch(4),
            best_valid_accuracy: 0.5,
            wait: 2,
        };
        assert_eq!(
            EarlyStopping::try_from(v1::EarlyStopping::from(state)),
            Ok(state)
        );
        let message = v1::EarlyStopping {
            best_epoch: 0,
            ..state.into()
        };
        assert!(EarlyStopping::try_from(message).is_err());
        let message = v1::EarlyStopping {
            best_valid_accuracy: f64::NAN,
            ..state.into()
        };
        assert!(EarlyStopping::try_from(message).is_err());
    }
}
