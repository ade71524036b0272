//! Published weights: reading them into our networks, and writing ours for others.
//!
//! - [`WeightsFile`]: a file in any of the formats, told by its content
//! - [`export_timm`]: a backbone for timm; [`export_torch`]: a whole network for PyTorch;
//!   [`export_keras`]: one for Keras
//! - `keras`, `keras3`, `archive`, `torch`: the formats; `state_dict`: the tensors of a file of any format
//! - `families`: one table for all sources, in both directions; `layer`: the names of a layer; `inception`
//!   and `graph`: the order in which Keras saves the layers of the Inception families
//! - `key_mapping`: which tensor is which parameter
//!
//! Nothing in a file is run, and nothing that a header claims is allocated before it is checked against the
//! file's length or the network's shapes.

mod archive;
mod error;
mod export;
mod export_keras;
mod families;
mod graph;
mod inception;
mod keras;
mod keras3;
mod key_mapping;
mod layer;
mod state_dict;
#[cfg(test)]
mod tests;
mod torch;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use quartet_shared::spec::{Backbone, Variant};
use quartet_shared::weights_format::{HEAD_SIZE, WeightsFormat};

use crate::checkpoint::{self, METADATA};
use crate::models::parameters::{shapes, with_values};
use crate::models::{Network, NetworkConfig};
use keras::KerasModel;
use key_mapping::{KeyMapping, Layout, Shapes};
use state_dict::StateDict;

pub use error::{Problems, WeightsError};
pub use export::{Exported, export_timm, export_torch};
pub use export_keras::export_keras;

/// A file of weights: its format is told by its content, not by its name.
///
/// | source | formats |
/// | --- | --- |
/// | Keras | HDF5, of weights or of whole models, in the legacy layout or in Keras 3's; `.keras`, from Keras 2.12 on |
/// | timm, torchvision | safetensors; `.pth` and `.pt`; the network by itself or as part of a larger one |
/// | Quartet | checkpoints |
pub struct WeightsFile {
    path: PathBuf,
    source: Source,
    tensors: StateDict,
}

enum Source {
    Keras(KerasModel),
    Torch,
    Checkpoint(NetworkConfig),
}

impl WeightsFile {
    /// Reads what the file says of its tensors, but none of them.
    ///
    /// # Errors
    /// The file cannot be read, is in no known format, or is malformed.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let start = start(path).map_err(|source| WeightsError::Read {
            path: path.to_owned(),
            source,
        })?;
        let opened = match WeightsFormat::of(&start) {
            Some(WeightsFormat::Hdf5) => {
                keras::open(path).map(|(model, tensors)| (Source::Keras(model), tensors))
            }
            Some(WeightsFormat::Pytorch) => {
                torch::open_pytorch(path).map(|tensors| (Source::Torch, tensors))
            }
            Some(WeightsFormat::Safetensors) => safetensors(path),
            Some(WeightsFormat::Keras3) => {
                keras::open_archive(path).map(|(model, tensors)| (Source::Keras(model), tensors))
            }
            None => Err(
                "it is neither of Keras (HDF5, .keras) nor safetensors nor a PyTorch state dict"
                    .to_owned(),
            ),
        };
        let (source, tensors) = opened.map_err(|reason| WeightsError::Format {
            path: path.to_owned(),
            reason,
        })?;
        Ok(Self {
            path: path.to_owned(),
            source,
            tensors,
        })
    }

    /// Which implementation of `backbone` the file is of; of VGG16, which is the same in all,
    /// [`Variant::Keras`].
    ///
    /// # Errors
    /// The file is of another backbone, or of a variant that `backbone` does not have.
    pub fn variant(&self, backbone: Backbone) -> Result<Variant, WeightsError> {
        let found = match &self.source {
            Source::Keras(model) => key_mapping::keras_backbone(model, &self.tensors),
            Source::Torch => key_mapping::torch_backbone(&self.tensors),
            Source::Checkpoint(config) => Some(config.backbone),
        };
        if let Some(found) = found
            && found.facts().family != backbone.facts().family
        {
            return Err(WeightsError::OtherBackbone {
                path: self.path.clone(),
                backbone,
                found,
            });
        }
        let variant = match &self.source {
            _ if !families::files(backbone).has_variants => Variant::Keras,
            Source::Keras(model)
                if model
                    .names
                    .iter()
                    .any(|name| name == key_mapping::KERAS_2018) =>
            {
                Variant::Keras2018
            }
            Source::Keras(_) => Variant::Keras,
            Source::Torch => Variant::Torch,
            Source::Checkpoint(config) => config.variant,
        };
        match backbone.facts().variants {
            [only] => self.expect(backbone, variant, *only),
            _ => Ok(variant),
        }
    }

    /// The network with the file's weights in its backbone; of a checkpoint of ours in its head, too, when
    /// the classes are the same ones in the same order. All else stays as it is. `network` was built with
    /// [`Self::variant`].
    ///
    /// # Errors
    /// The file's tensors are not exactly those of the backbone, or cannot be read. What belongs to a
    /// published classifier does not count.
    pub fn load(&self, network: Network) -> Result<Network, WeightsError> {
        let config = network.config().clone();
        let variant = self.variant(config.backbone)?;
        if families::files(config.backbone).has_variants {
            self.expect(config.backbone, variant, config.variant)?;
        }
        let shapes = shapes(&network);
        let (mapping, layout) = self.map(&config, &shapes);
        if !mapping.problems.is_empty() {
            return Err(WeightsError::Mismatch {
                path: self.path.clone(),
                backbone: config.backbone,
                problems: Box::new(mapping.problems),
            });
        }
        let mut problem = None;
        let network = with_values(network, |name, shape| {
            let Some(&source) = mapping.sources.get(name) else {
                return constant(name, shape);
            };
            if problem.is_some() {
                return None;
            }
            let tensor = &self.tensors[source];
            match tensor.read(&self.path) {
                Ok(values) => Some(layout.ours(values, shape)),
                Err(reason) => {
                    problem = Some(format!("{}: {reason}", tensor.name));
                    None
                }
            }
        });
        match problem {
            Some(reason) => Err(WeightsError::Format {
                path: self.path.clone(),
                reason,
            }),
            None => Ok(network),
        }
    }

    /// For a checkpoint of ours: what it is of.
    #[must_use]
    pub fn config(&self) -> Option<&NetworkConfig> {
        match &self.source {
            Source::Checkpoint(config) => Some(config),
            Source::Keras(_) | Source::Torch => None,
        }
    }

    fn map(&self, config: &NetworkConfig, shapes: &Shapes) -> (KeyMapping, Layout) {
        let (mut mapping, layout, width) = match &self.source {
            Source::Keras(model) => {
                let mapping = key_mapping::keras(model, &self.tensors, config, shapes);
                (mapping, Layout::Keras, None)
            }
            Source::Torch => {
                let mapping = key_mapping::torch(&self.tensors, config, shapes);
                (mapping, Layout::Torch, None)
            }
            Source::Checkpoint(found) => {
                let head = found.classes == config.classes;
                let mapping = key_mapping::checkpoint(&self.tensors, head, shapes);
                (mapping, Layout::Torch, Some(found.width))
            }
        };
        mapping.check(&self.tensors, layout, shapes);
        if !mapping.problems.unfit.is_empty() {
            let width =
                width.or_else(|| mapping.width(&self.tensors, layout, shapes, config.backbone));
            mapping.problems.hint = width.filter(|width| *width != config.width).map(|width| {
                let network = config.width;
                format!("the file is of width {width}, the network of width {network}")
            });
        }
        (mapping, layout)
    }

    fn expect(
        &self,
        backbone: Backbone,
        found: Variant,
        expected: Variant,
    ) -> Result<Variant, WeightsError> {
        if found == expected {
            return Ok(found);
        }
        Err(WeightsError::OtherVariant {
            path: self.path.clone(),
            backbone,
            found,
            expected,
        })
    }
}

/// The gamma that Keras' Inception families do not have.
fn constant(name: &str, shape: &[usize]) -> Option<Vec<f32>> {
    let constant = name.starts_with(layer::BACKBONE) && name.ends_with(".gamma");
    constant.then(|| vec![1.0; shape.iter().product()])
}

fn start(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    let file = File::open(path)?;
    file.take(HEAD_SIZE as u64).read_to_end(&mut start)?;
    Ok(start)
}

fn safetensors(path: &Path) -> Result<(Source, StateDict), String> {
    let (tensors, metadata) = torch::open_safetensors(path)?;
    let source = match metadata.get(METADATA) {
        Some(json) => Source::Checkpoint(checkpoint::network_of(json)?),
        None => Source::Torch,
    };
    Ok((source, tensors))
}
