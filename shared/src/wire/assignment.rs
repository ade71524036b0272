//! Assignments.

use quartet_proto::v1;

use super::{WireError, epoch, name, required};
use crate::assignment::{Assignment, BestCheckpoint, CheckpointRef, Inputs, Start};
use crate::blob::BlobRef;
use crate::position::Position;
use crate::spec::ExperimentSpec;
use crate::task::{LeaseId, Task};

impl From<BlobRef> for v1::BlobRef {
    fn from(object: BlobRef) -> Self {
        Self {
            key: object.key,
            blob: Some(object.blob.into()),
        }
    }
}

impl TryFrom<v1::BlobRef> for BlobRef {
    type Error = WireError;

    fn try_from(object: v1::BlobRef) -> Result<Self, WireError> {
        Ok(Self {
            key: object.key,
            blob: required(object.blob, "blob")?,
        })
    }
}

impl From<CheckpointRef> for v1::CheckpointRef {
    fn from(checkpoint: CheckpointRef) -> Self {
        Self {
            position: Some(checkpoint.position.into()),
            early_stopping: checkpoint.early_stopping.map(Into::into),
            weights: Some(checkpoint.weights.into()),
            training_state: Some(checkpoint.training_state.into()),
        }
    }
}

impl TryFrom<v1::CheckpointRef> for CheckpointRef {
    type Error = WireError;

    fn try_from(checkpoint: v1::CheckpointRef) -> Result<Self, WireError> {
        let position: Position = required(checkpoint.position, "position")?;
        let early_stopping = checkpoint
            .early_stopping
            .map(TryFrom::try_from)
            .transpose()?;
        if position.epoch.0 > 0 && early_stopping.is_none() {
            return Err(WireError::Missing("early_stopping"));
        }
        Ok(Self {
            position,
            early_stopping,
            weights: required(checkpoint.weights, "weights")?,
            training_state: required(checkpoint.training_state, "training_state")?,
        })
    }
}

impl From<BestCheckpoint> for v1::BestCheckpoint {
    fn from(best: BestCheckpoint) -> Self {
        Self {
            run: best.run.to_string(),
            epoch: best.epoch.0,
            weights: Some(best.weights.into()),
            predictions: best.predictions.map(Into::into),
        }
    }
}

impl TryFrom<v1::BestCheckpoint> for BestCheckpoint {
    type Error = WireError;

    fn try_from(best: v1::BestCheckpoint) -> Result<Self, WireError> {
        Ok(Self {
            run: name(best.run, "run")?,
            epoch: epoch(best.epoch, "epoch")?,
            weights: required(best.weights, "weights")?,
            predictions: best.predictions.map(TryFrom::try_from).transpose()?,
        })
    }
}

impl From<Start> for v1::TrainingInputs {
    fn from(start: Start) -> Self {
        let (initial_weights, checkpoint) = match start {
            Start::Random => (None, None),
            Start::Pretrained(weights) => (Some(weights.into()), None),
            Start::Checkpoint(checkpoint) => (None, Some(checkpoint.into())),
        };
        Self {
            initial_weights,
            checkpoint,
        }
    }
}

impl TryFrom<v1::TrainingInputs> for Start {
    type Error = WireError;

    fn try_from(inputs: v1::TrainingInputs) -> Result<Self, WireError> {
        Ok(match (inputs.checkpoint, inputs.initial_weights) {
            (Some(checkpoint), _) => Self::Checkpoint(checkpoint.try_into()?),
            (None, Some(weights)) => Self::Pretrained(weights.try_into()?),
            (None, None) => Self::Random,
        })
    }
}

impl From<Inputs> for v1::assignment::Inputs {
    fn from(inputs: Inputs) -> Self {
        match inputs {
            Inputs::Training { run: _, start } => Self::Training(start.into()),
            Inputs::Evaluation { members } => Self::Evaluation(v1::EvaluationInputs {
                members: members.into_iter().map(Into::into).collect(),
            }),
        }
    }
}

impl From<Assignment> for v1::Assignment {
    fn from(assignment: Assignment) -> Self {
        let experiment = serde_json::to_vec(&assignment.experiment);
        Self {
            lease: Some(assignment.lease.into()),
            experiment: experiment.expect("a spec is JSON").into(),
            dataset: Some(assignment.dataset.into()),
            inputs: Some(assignment.inputs.into()),
        }
    }
}

impl TryFrom<v1::Assignment> for Assignment {
    type Error = WireError;

    fn try_from(assignment: v1::Assignment) -> Result<Self, WireError> {
        use v1::assignment::Inputs as Message;
        let lease: LeaseId = required(assignment.lease, "lease")?;
        let inputs = match (&lease.task, assignment.inputs) {
            (Task::Train(run), Some(Message::Training(inputs))) => Inputs::Training {
                run: run.clone(),
                start: inputs.try_into()?,
            },
            (Task::Evaluate, Some(Message::Evaluation(inputs))) => {
                let members = inputs.members.into_iter().map(TryFrom::try_from);
                let members = members.collect::<Result<_, _>>()?;
                Inputs::Evaluation { members }
            }
            (Task::Train(_) | Task::Evaluate, _) => return Err(WireError::Missing("inputs")),
        };
        Ok(Self {
            lease,
            experiment: experiment(&assignment.experiment)?,
            dataset: required(assignment.dataset, "dataset")?,
            inputs,
        })
    }
}

/// An experiment that can be trained: a batch of no image, say, would end the worker.
fn experiment(json: &[u8]) -> Result<ExperimentSpec, WireError> {
    let invalid = |error: String| WireError::Json {
        field: "experiment",
        error,
    };
    let spec: ExperimentSpec = serde_json::from_slice(json).map_err(|e| invalid(e.to_string()))?;
    spec.validate().map_err(|e| invalid(e.to_string()))?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Blob;
    use crate::early_stopping::EarlyStopping;
    use crate::ids::{Attempt, Epoch};
    use crate::spec::Preset;

    fn object(key: &str) -> BlobRef {
        BlobRef {
            key: key.to_owned(),
            blob: Blob::of(key.as_bytes()),
        }
    }

    fn assignment(task: Task, inputs: Inputs) -> Assignment {
        Assignment {
            lease: LeaseId {
                experiment: "x-1".parse().unwrap(),
                task,
                attempt: Attempt(2),
                worker: "w1".parse().unwrap(),
            },
            experiment: Preset::Demo.spec(),
            dataset: object("datasets/d.qds"),
            inputs,
        }
    }

    fn training(start: Start) -> Assignment {
        let run: crate::ids::RunName = "vgg16".parse().unwrap();
        assignment(Task::Train(run.clone()), Inputs::Training { run, start })
    }

    fn checkpoint(position: Position, early_stopping: Option<EarlyStopping>) -> CheckpointRef {
        CheckpointRef {
            position,
            early_stopping,
            weights: object("w"),
            training_state: object("s"),
        }
    }

    fn evaluation() -> Assignment {
        let member = |predictions| BestCheckpoint {
            run: "vgg16".parse().unwrap(),
            epoch: Epoch(3),
            weights: object("w"),
            predictions,
        };
        let members = vec![member(None), member(Some(object("p")))];
        assignment(Task::Evaluate, Inputs::Evaluation { members })
    }

    #[test]
    fn assignments_survive_the_wire() {
        let after_an_epoch = EarlyStopping::observe(None, Epoch(1), 0.5);
        for assignment in [
            training(Start::Random),
            training(Start::Pretrained(object("weights/x"))),
            training(Start::Checkpoint(checkpoint(
                Position::within(Epoch(1), 4),
                None,
            ))),
            training(Start::Checkpoint(checkpoint(
                Position::within(Epoch(2), 4),
                Some(after_an_epoch),
            ))),
            evaluation(),
        ] {
            let message = v1::Assignment::from(assignment.clone());
            assert_eq!(Assignment::try_from(message), Ok(assignment));
        }
    }

    #[test]
    fn what_an_assignment_lacks_is_named() {
        let end_of_1 = Position::end_of(Epoch(1));
        let good = || v1::Assignment::from(training(Start::Random));
        let unbatched = ExperimentSpec {
            batch_size: 0,
            ..Preset::Demo.spec()
        };
        for (message, error) in [
            (
                v1::Assignment {
                    lease: None,
                    ..good()
                },
                "lease is missing",
            ),
            (
                v1::Assignment {
                    dataset: None,
                    ..good()
                },
                "dataset is missing",
            ),
            (
                v1::Assignment {
                    inputs: None,
                    ..good()
                },
                "inputs is missing",
            ),
            (
                v1::Assignment {
                    inputs: v1::Assignment::from(evaluation()).inputs,
                    ..good()
                },
                "inputs is missing",
            ),
            (
                training(Start::Checkpoint(checkpoint(end_of_1, None))).into(),
                "early_stopping is missing",
            ),
            (
                v1::Assignment {
                    experiment: b"{}".as_slice().into(),
                    ..good()
                },
                "experiment: missing field `name` at line 1 column 2",
            ),
            (
                v1::Assignment {
                    experiment: serde_json::to_vec(&unbatched).unwrap().into(),
                    ..good()
                },
                "experiment: batch_size must be at least 2, not 0",
            ),
        ] {
            assert_eq!(
                Assignment::try_from(message).unwrap_err().to_string(),
                error
            );
        }
    }
}
