//! A task as a worker gets it: the lease, and references to all objects of the store that it begins with.

use crate::blob::BlobRef;
use crate::early_stopping::EarlyStopping;
use crate::ids::{Epoch, RunName};
use crate::position::Position;
use crate::spec::ExperimentSpec;
use crate::task::LeaseId;

/// A task to begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The right to work on it.
    pub lease: LeaseId,
    /// The experiment that it belongs to.
    pub experiment: ExperimentSpec,
    /// The packed data set.
    pub dataset: BlobRef,
    /// What else it needs.
    pub inputs: Inputs,
}

/// What a task needs besides the experiment and its data. The kind is that of the lease's task.
#[derive(Clone, Debug, PartialEq)]
pub enum Inputs {
    /// Training of a run.
    Training {
        /// The run.
        run: RunName,
        /// Where its parameters come from.
        start: Start,
    },
    /// Evaluation of the ensemble.
    Evaluation {
        /// The best checkpoint of each run.
        members: Vec<BestCheckpoint>,
    },
}

/// Where a run's parameters come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// The layers' random initial values.
    Random,
    /// A file of pretrained weights.
    Pretrained(BlobRef),
    /// The run's newest checkpoint.
    Checkpoint(CheckpointRef),
}

/// A committed checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointRef {
    /// What it is the state after.
    pub position: Position,
    /// Early stopping after the last epoch that is done, if one is.
    pub early_stopping: Option<EarlyStopping>,
    /// The weights.
    pub weights: BlobRef,
    /// The training state.
    pub training_state: BlobRef,
}

/// The weights of a run's best epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct BestCheckpoint {
    /// The run.
    pub run: RunName,
    /// The epoch.
    pub epoch: Epoch,
    /// Its weights.
    pub weights: BlobRef,
    /// What they say of the evaluated images, if that is kept from an earlier evaluation.
    pub predictions: Option<BlobRef>,
}
