//! The training state: what a resume needs besides the weights.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use quartet_shared::ids::Epoch;
use serde::{Deserialize, Serialize};

use super::file::{self, CheckpointError, Tensors, WrittenFile};
use crate::models::params::Parameter;
use crate::train::adam::{Adam, Moments};

/// Version of the training state's contents.
const FORMAT: u32 = 1;

/// Counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Metadata {
    format: u32,
    /// Seed of the run.
    seed: u64,
    /// The epoch that this is the end of.
    epoch: Epoch,
    /// Updates of the optimizer, which its learning rate decays with.
    updates: u64,
}

/// Writes moments and counters of `adam`.
pub(super) fn save(
    adam: &Adam,
    seed: u64,
    epoch: Epoch,
    path: &Path,
) -> Result<WrittenFile, CheckpointError> {
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
        seed,
        epoch,
        updates: adam.updates,
    };
    file::save(tensors, &metadata, path)
}

/// Puts the training state of a file into a new `adam`.
///
/// # Errors
/// The file cannot be read, is of another seed or epoch, or its tensors are not exactly those of `adam`.
pub(crate) fn load_training_state(
    adam: &mut Adam,
    seed: u64,
    epoch: Epoch,
    path: &Path,
) -> Result<(), CheckpointError> {
    let bytes = file::read(path)?;
    let (found, mut tensors) = Tensors::parse::<Metadata>(&bytes, path)?;
    let expected = Metadata {
        format: FORMAT,
        seed,
        epoch,
        updates: found.updates,
    };
    if found != expected {
        return Err(tensors.mismatch(&format!("it is of {found:?} instead of {expected:?}")));
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
    Ok(())
}
