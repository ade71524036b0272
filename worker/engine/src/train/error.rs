//! What can go wrong in a training.

use quartet_agent::executor::UnsupportedPrecision;
use quartet_shared::dataset::Split;
use quartet_shared::ids::Epoch;

use crate::checkpoint::CheckpointError;
use crate::weights::WeightsError;

/// Why a run cannot be trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The loss became NaN or infinite.
    #[error("the training loss is not finite in epoch {epoch}, step {step}")]
    Diverged {
        /// The epoch.
        epoch: Epoch,
        /// The step, from 1.
        step: u32,
    },
    /// There is nothing to train or to validate on.
    #[error("the data set has no images in split {0:?}")]
    NoImages(Split),
    /// The images cannot be read.
    #[error("cannot read the data set's file")]
    Images(#[from] std::io::Error),
    /// The device does not compute in the experiment's precision.
    #[error(transparent)]
    Precision(#[from] UnsupportedPrecision),
    /// The checkpoint to resume from cannot be used.
    #[error("cannot resume")]
    Resume(#[from] CheckpointError),
    /// The initial weights cannot be used.
    #[error("cannot start from the weights of the run")]
    Weights(#[from] WeightsError),
}
