//! Tasks with everything that they need on this machine, and their results.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quartet_shared::dataset::Dataset;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::Epoch;
use quartet_shared::outcome::Outcome;
use quartet_shared::position::Position;
use quartet_shared::report::EvaluationReport;
use quartet_shared::spec::{ExperimentSpec, RunSpec};

/// What to train.
#[derive(Clone, Debug)]
pub struct TrainTask {
    /// The experiment.
    pub experiment: ExperimentSpec,
    /// The run, one of the experiment's.
    pub run: RunSpec,
    /// The data.
    pub dataset: Arc<Dataset>,
    /// The file of its initial weights; without one they are random.
    pub weights: Option<PathBuf>,
    /// The last committed checkpoint, if there is one.
    pub resume: Option<Resume>,
    /// How often a mid-epoch checkpoint is due; without one never.
    pub checkpoint_interval: Option<Duration>,
}

/// Where a run goes on.
#[derive(Clone, Debug)]
pub struct Resume {
    /// What is done.
    pub position: Position,
    /// Early stopping after the last epoch that is done, if one is.
    pub early_stopping: Option<EarlyStopping>,
    /// The file of weights at this position.
    pub weights: PathBuf,
    /// The file of the training state.
    pub training_state: PathBuf,
}

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trained {
    /// All epochs are trained, or early stopping ended the run.
    Finished(Outcome),
    /// It was told to stop; what it did not hand over is lost.
    Stopped,
}

/// What to evaluate.
#[derive(Clone, Debug)]
pub struct EvaluateTask {
    /// The experiment.
    pub experiment: ExperimentSpec,
    /// The ensemble.
    pub members: Vec<Member>,
    /// The data.
    pub dataset: Arc<Dataset>,
}

/// A run whose weights join the ensemble.
#[derive(Clone, Debug)]
pub struct Member {
    /// The run.
    pub run: RunSpec,
    /// The epoch of the weights.
    pub best_epoch: Epoch,
    /// The file with the weights.
    pub weights: PathBuf,
}

/// How an evaluation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluated {
    /// The report.
    Finished(Box<EvaluationReport>),
    /// It was told to stop.
    Stopped,
}
