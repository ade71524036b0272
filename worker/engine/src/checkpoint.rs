//! Checkpoint files: safetensors, as Python's `safetensors` reads them too.
//!
//! - Weights: one f32 tensor per parameter and running statistic, named by its path in the network
//!   (`head.hidden1.dense.weight`), in burn's layouts (a dense kernel is `[in, out]`, a convolution's `[out, in, h, w]`). The
//!   metadata entry [`METADATA`] says what network it is.
//! - Training state: `adam.m.<name>` and `adam.v.<name>` of each trainable parameter, and the metadata entry with
//!   counters, within an epoch also the sums that its metrics will be made of. With the weights and the spec it is all
//!   that a resume needs: random numbers are functions of (seed, epoch, step).
//!
//! The same state makes the same bytes.

mod file;
mod state;

use std::path::Path;

use burn::tensor::Device;
use quartet_agent::executor::{CheckpointFiles, Snapshot, SnapshotError, WrittenFile};
use quartet_shared::position::Position;
use serde::{Deserialize, Serialize};

use crate::models::params::{parameters, with_values};
use crate::models::{Network, NetworkConfig};
use crate::train::Sums;
use crate::train::adam::Adam;
use file::Tensors;

pub(crate) use file::mismatch;
pub use file::{CheckpointError, METADATA};
pub(crate) use state::load_training_state;

/// Version of the contents of a file of weights.
const FORMAT: u32 = 1;

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
    pub(crate) sums: Option<Sums>,
}

impl Snapshot for TrainingSnapshot {
    /// As `<stem>.safetensors` and `<stem>.state.safetensors`.
    fn write(self: Box<Self>, folder: &Path, stem: &str) -> Result<CheckpointFiles, SnapshotError> {
        let weights = save_network(&self.network, &folder.join(format!("{stem}.safetensors")))?;
        let path = folder.join(format!("{stem}.state.safetensors"));
        match state::save(&self, &path) {
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

/// What a file of weights says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Metadata {
    format: u32,
    network: NetworkConfig,
}

impl Metadata {
    fn network(self) -> Result<NetworkConfig, String> {
        if self.format != FORMAT {
            let found = self.format;
            return Err(format!(
                "it has format {found}, this version reads {FORMAT}"
            ));
        }
        let checked = self.network.validate();
        checked.map_err(|reason| format!("its network: {reason}"))?;
        Ok(self.network)
    }
}

/// The network that the metadata of a file of weights names.
///
/// # Errors
/// What is wrong with the metadata.
pub(crate) fn network_of(metadata: &str) -> Result<NetworkConfig, String> {
    let metadata: Metadata =
        serde_json::from_str(metadata).map_err(|e| format!("its metadata: {e}"))?;
    metadata.network()
}

/// Writes all parameters and running statistics of `network`, and what it is.
///
/// # Errors
/// The file cannot be written or read back.
pub fn save_network(network: &Network, path: &Path) -> Result<WrittenFile, SnapshotError> {
    let metadata = Metadata {
        format: FORMAT,
        network: network.config().clone(),
    };
    file::save(parameters(network), &metadata, path)
}

/// The network of a file that [`save_network`] wrote.
///
/// # Errors
/// The file cannot be read, is none of ours, or its tensors are not exactly those of the network that it names.
pub fn load_network(path: &Path, device: &Device) -> Result<Network, CheckpointError> {
    let bytes = file::read(path)?;
    let (metadata, mut tensors) = Tensors::parse::<Metadata>(&bytes, path)?;
    let config = metadata
        .network()
        .map_err(|reason| mismatch(path, &reason))?;
    let mut problem = None;
    let network = with_values(config.init(device, 0), |name, shape| {
        let values = tensors.take(name, shape);
        values
            .map_err(|error| problem.get_or_insert(error).to_string())
            .ok()
    });
    match problem {
        Some(error) => Err(error),
        None => tensors.finish().map(|()| network),
    }
}

/// The network of a file that a run of this configuration wrote, whichever variant that is.
///
/// # Errors
/// As [`load_network`], or the file is of another configuration.
pub(crate) fn load_run(
    expected: &NetworkConfig,
    path: &Path,
    device: &Device,
) -> Result<Network, CheckpointError> {
    let network = load_network(path, device)?;
    let expected = NetworkConfig {
        variant: network.config().variant,
        ..expected.clone()
    };
    if *network.config() == expected {
        Ok(network)
    } else {
        let found = network.config();
        let reason = format!("it is of {found:?} instead of {expected:?}");
        Err(mismatch(path, &reason))
    }
}
