//! The training state: what a resume needs besides the weights.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use quartet_agent::executor::{CheckpointFiles, Snapshot, SnapshotError, WrittenFile};
use quartet_shared::ids::Epoch;
use quartet_shared::position::Position;
use serde::{Deserialize, Serialize};

use super::error::CheckpointError;
use super::file::{self, Tensors};
use super::network::save_network;
use crate::adam::{Adam, Moments};
use crate::metrics::MetricTotals;
use crate::models::Network;
use crate::models::parameters::Parameter;

/// The state of a network's training.
///
/// It shares its tensors with the training that goes on, so that making one costs next to nothing.
#[derive(Clone, Debug)]
pub struct TrainingSnapshot {
    pub(crate) network: Network,
    pub(crate) adam: Adam,
    pub(crate) seed: u64,
    pub(crate) position: Position,
    /// Within an epoch: what its metrics will be made of.
    pub(crate) totals: Option<MetricTotals>,
}

impl Snapshot for TrainingSnapshot {
    /// As `<stem>.safetensors` and `<stem>.state.safetensors`.
    fn write(self: Box<Self>, folder: &Path, stem: &str) -> Result<CheckpointFiles, SnapshotError> {
        let weights = save_network(&self.network, &folder.join(format!("{stem}.safetensors")))?;
        let path = folder.join(format!("{stem}.state.safetensors"));
        match save(&self, &path) {
            Ok(training_state) => Ok(CheckpointFiles {
                weights,
                training_state,
            }),
            Err(error) => {
                let _ = std::fs::remove_file(&weights.path);
                Err(error)
            }
        }
    }
}

/// Version of the training state's contents. The first knew ends of epochs only; its files can be read.
const FORMAT: u32 = 2;

/// More updates than any training does, and a whole number in f64 as are all below.
const MAX_UPDATES: u64 = 1 << 52;

/// Counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Metadata {
    format: u32,
    /// Seed of the run.
    seed: u64,
    /// The epoch that this is the end of, or that lies before it.
    epoch: Epoch,
    /// Steps of the epoch after that one.
    #[serde(default)]
    step: u32,
    /// Updates of the optimizer, which its learning rate decays with.
    updates: u64,
    /// The totals of these steps; JSON keeps them to the last bit. None where there are no steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sums: Option<MetricTotals>,
}

/// Writes moments and counters.
fn save(snapshot: &TrainingSnapshot, path: &Path) -> Result<WrittenFile, SnapshotError> {
    let TrainingSnapshot {
        adam,
        seed,
        position,
        totals,
        ..
    } = snapshot;
    let mut tensors = BTreeMap::new();
    for (name, Moments { shape, m, v }) in &adam.moments {
        for (kind, values) in [("m", m), ("v", v)] {
            let parameter = Parameter {
                shape: shape.clone(),
                values: values.clone(),
            };
            tensors.insert(format!("adam.{kind}.{name}"), parameter);
        }
    }
    let metadata = Metadata {
        format: FORMAT,
        seed: *seed,
        epoch: position.epoch,
        step: position.step,
        updates: adam.updates,
        sums: *totals,
    };
    file::save(tensors, &metadata, path)
}

/// Puts the training state of a file into a new `adam` and returns the totals of the epoch that it is within.
///
/// # Errors
/// The file cannot be read, is of another seed or position, or its tensors are not exactly those of `adam`.
pub(crate) fn load_training_state(
    adam: &mut Adam,
    seed: u64,
    position: Position,
    path: &Path,
) -> Result<Option<MetricTotals>, CheckpointError> {
    let bytes = file::read(path)?;
    let (found, mut tensors) = Tensors::parse::<Metadata>(&bytes, path)?;
    let expected = Metadata {
        format: found.format.clamp(1, FORMAT),
        seed,
        epoch: position.epoch,
        step: position.step,
        ..found.clone()
    };
    if found != expected {
        return Err(tensors.mismatch(&format!("it is of {found:?} instead of {expected:?}")));
    }
    if found.sums.is_some() != (position.step > 0) {
        return Err(tensors.mismatch(&format!("its sums are {:?} at {position}", found.sums)));
    }
    if found.updates > MAX_UPDATES {
        let updates = found.updates;
        return Err(tensors.mismatch(&format!("it has {updates} updates, more than can be done")));
    }
    if found.sums.is_some_and(|sums| !sums.are_possible()) {
        return Err(tensors.mismatch(&format!("its sums are {:?}", found.sums)));
    }
    for (name, moments) in &mut adam.moments {
        for (kind, values) in [("m", &mut moments.m), ("v", &mut moments.v)] {
            let data = tensors.take(&format!("adam.{kind}.{name}"), &moments.shape)?;
            let data = TensorData::new(data, [values.dims()[0]]);
            *values = Tensor::from_data(data, &values.device());
        }
    }
    tensors.finish()?;
    adam.updates = found.updates;
    Ok(found.sums)
}
