//! Tasks with everything that they need on this machine, and their results.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quartet_shared::dataset::Dataset;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::Epoch;
use quartet_shared::outcome::Outcome;
use quartet_shared::position::Position;
use quartet_shared::predictions::Predictions;
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

/// A run that joins the ensemble.
#[derive(Clone, Debug)]
pub struct Member {
    /// The run.
    pub run: RunSpec,
    /// Its best epoch.
    pub best_epoch: Epoch,
    /// What is known of its network after that epoch.
    pub source: MemberSource,
}

/// Where a member's predictions come from.
#[derive(Clone, Debug)]
pub enum MemberSource {
    /// They are computed with the weights in this file.
    Weights(PathBuf),
    /// An earlier attempt has computed them.
    Predictions(Predictions),
}

impl Member {
    /// The file of weights of a member whose predictions are to be computed.
    #[must_use]
    pub fn weights(&self) -> Option<&Path> {
        match &self.source {
            MemberSource::Weights(weights) => Some(weights),
            MemberSource::Predictions(_) => None,
        }
    }
}

/// How an evaluation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluated {
    /// The report.
    Finished(Box<EvaluationReport>),
    /// It was told to stop.
    Stopped,
}
