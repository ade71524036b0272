//! Files of weights: a network's parameters and running statistics.

use std::path::Path;

use burn::tensor::Device;
use quartet_agent::executor::{SnapshotError, WrittenFile};
use quartet_shared::spec::MAX_IMAGE_SIZE;
use serde::{Deserialize, Serialize};

use super::error::{CheckpointError, mismatch};
use super::file::{self, Tensors};
use crate::models::parameters::{parameters, with_values};
use crate::models::{Network, NetworkConfig};

/// Version of the contents of a file of weights.
const FORMAT: u32 = 1;

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
        let size = self.network.image_size;
        let checked = match size <= MAX_IMAGE_SIZE as usize {
            true => self.network.validate(),
            false => Err(format!(
                "it takes images of at most {MAX_IMAGE_SIZE} pixels, not {size}"
            )),
        };
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
/// The file cannot be read, is none of ours, or its tensors are not exactly those of the network that it
/// names.
pub fn load_network(path: &Path, device: &Device) -> Result<Network, CheckpointError> {
    load(path, device, |_| Ok(()))
}

/// [`load_network`] of a network that `check` finds no fault with. It is built afterwards, of the file's
/// tensors alone: what the metadata claims takes no memory.
fn load(
    path: &Path,
    device: &Device,
    check: impl FnOnce(&NetworkConfig) -> Result<(), String>,
) -> Result<Network, CheckpointError> {
    let bytes = file::read(path)?;
    let (metadata, mut tensors) = Tensors::parse::<Metadata>(&bytes, path)?;
    let config = metadata
        .network()
        .and_then(|config| check(&config).map(|()| config))
        .map_err(|reason| mismatch(path, &reason))?;
    let mut problem = None;
    let network = with_values(config.blank(device), |name, shape| {
        if problem.is_some() {
            return None;
        }
        let values = tensors.take(name, shape);
        values.map_err(|error| problem = Some(error)).ok()
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
    load(path, device, |found| {
        let expected = NetworkConfig {
            variant: found.variant,
            ..expected.clone()
        };
        match *found == expected {
            true => Ok(()),
            false => Err(format!("it is of {found:?} instead of {expected:?}")),
        }
    })
}
