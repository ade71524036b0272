//! Published weights: reading them into our networks, and writing ours for timm.
//!
//! - [`WeightsFile`]: a file in any of the formats, told by its content
//! - [`export_timm`]: a backbone for timm
//! - `keras`, `torch`: the formats; `stored`: a tensor in a file of any format
//! - `layers`: one table of names for all sources, in both directions; `inception` and `graph`: the order in which
//!   Keras saves the layers of the Inception families
//! - `fit`: which tensor is which parameter
//!
//! Nothing in a file is run, and nothing that a header claims is allocated before it is checked against the file's
//! length or the network's shapes.

mod error;
mod export;
mod fit;
mod graph;
mod inception;
mod keras;
mod layers;
mod stored;
#[cfg(test)]
mod tests;
mod torch;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use quartet_shared::spec::Backbone;

use crate::checkpoint::{self, METADATA};
use crate::models::params::{shapes, with_values};
use crate::models::{Network, NetworkConfig, Variant};
use fit::{Fit, Layout, Shapes};
use keras::KerasModel;
use stored::Stored;

pub use error::{Problems, WeightsError};
pub use export::{Exported, export_timm};

/// A file of weights: its format is told by its content, not by its name.
///
/// | source | formats |
/// | --- | --- |
/// | Keras | legacy HDF5, of weights or of whole models |
/// | timm, torchvision | safetensors; `.pth` and `.pt`, bare or wrapped in `state_dict` or `model` |
/// | Quartet | checkpoints |
pub struct WeightsFile {
    path: PathBuf,
    source: Source,
    /// In the order of the file, or by name.
    tensors: Vec<Stored>,
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
        let opened = match Format::of(&start) {
            Some(Format::Hdf5) => {
                keras::open(path).map(|(model, tensors)| (Source::Keras(model), tensors))
            }
            Some(Format::Pytorch) => {
                torch::open_pytorch(path).map(|tensors| (Source::Torch, tensors))
            }
            Some(Format::Safetensors) => safetensors(path),
            Some(Format::Keras3) => Err(keras::KERAS_3.to_owned()),
            None => Err(
                "it is neither HDF5 of Keras nor safetensors nor a PyTorch state dict".to_owned(),
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

    /// Which implementation of `backbone` the file is of; of VGG16, which is the same in all, [`Variant::Keras`].
    ///
    /// # Errors
    /// The file is of another backbone, or of a variant that `backbone` does not have.
    pub fn variant(&self, backbone: Backbone) -> Result<Variant, WeightsError> {
        let found = match &self.source {
            Source::Keras(model) => fit::keras_backbone(model),
            Source::Torch => fit::torch_backbone(&self.tensors),
            Source::Checkpoint(config) => Some(config.backbone),
        };
        if let Some(found) = found
            && net(found) != net(backbone)
        {
            return Err(WeightsError::OtherBackbone {
                path: self.path.clone(),
                backbone,
                found,
            });
        }
        let variant = match &self.source {
            _ if backbone == Backbone::Vgg16 => Variant::Keras,
            Source::Keras(model) if model.names.iter().any(|name| name == fit::KERAS_2018) => {
                Variant::Keras2018
            }
            Source::Keras(_) => Variant::Keras,
            Source::Torch => Variant::Torch,
            Source::Checkpoint(config) => config.variant,
        };
        match backbone {
            Backbone::Resnet50V1_5 => self.expect(backbone, variant, Variant::Torch),
            _ => Ok(variant),
        }
    }

    /// The network with the file's weights in its backbone; of a checkpoint of ours in its head, too, when the classes
    /// are the same ones in the same order. All else stays as it is. `network` was built with [`Self::variant`].
    ///
    /// # Errors The file's tensors are not exactly those of the backbone, or cannot be read. What belongs to a
    /// published classifier does not count.
    pub fn load(&self, network: Network) -> Result<Network, WeightsError> {
        let config = network.config().clone();
        let variant = self.variant(config.backbone)?;
        if config.backbone != Backbone::Vgg16 {
            self.expect(config.backbone, variant, config.variant)?;
        }
        let shapes = shapes(&network);
        let (fit, layout) = self.fit(&config, &shapes);
        if !fit.problems.is_empty() {
            return Err(WeightsError::Mismatch {
                path: self.path.clone(),
                backbone: config.backbone,
                problems: Box::new(fit.problems),
            });
        }
        let mut problem = None;
        let network = with_values(network, |name, shape| {
            let Some(&source) = fit.sources.get(name) else {
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

    fn fit(&self, config: &NetworkConfig, shapes: &Shapes) -> (Fit, Layout) {
        let (mut fit, layout, width) = match &self.source {
            Source::Keras(model) => {
                let fit = fit::keras(model, &self.tensors, config, shapes);
                (fit, Layout::Keras, None)
            }
            Source::Torch => {
                let fit = fit::torch(&self.tensors, config, shapes);
                (fit, Layout::Torch, None)
            }
            Source::Checkpoint(found) => {
                let head = found.classes == config.classes;
                let fit = fit::checkpoint(&self.tensors, head, shapes);
                (fit, Layout::Torch, Some(found.width))
            }
        };
        fit.check(&self.tensors, layout, shapes);
        if !fit.problems.unfit.is_empty() {
            let width = width.or_else(|| fit.width(&self.tensors, layout, shapes, config.backbone));
            fit.problems.hint = width.filter(|width| *width != config.width).map(|width| {
                let network = config.width;
                format!("the file is of width {width}, the network of width {network}")
            });
        }
        (fit, layout)
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

/// Backbones that differ in their variant only are one network.
fn net(backbone: Backbone) -> Backbone {
    match backbone {
        Backbone::Resnet50V1_5 => Backbone::Resnet50,
        other => other,
    }
}

/// The gamma that Keras' Inception families do not have.
fn constant(name: &str, shape: &[usize]) -> Option<Vec<f32>> {
    let constant = name.starts_with(layers::BACKBONE) && name.ends_with(".gamma");
    constant.then(|| vec![1.0; shape.iter().product()])
}

/// The formats, by how a file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Hdf5,
    Safetensors,
    /// Zip, tar or a pickle.
    Pytorch,
    /// The zip archive `.keras`.
    Keras3,
}

impl Format {
    fn of(start: &[u8]) -> Option<Self> {
        let at = |offset: usize, magic: &[u8]| {
            start
                .get(offset..)
                .is_some_and(|rest| rest.starts_with(magic))
        };
        // Eight bytes of length come first in safetensors, whose low ones may be anything, such as the `PK` of an
        // archive.
        let safetensors = at(8, b"{");
        // An archive's first entry is named at byte 30.
        let keras_3 = at(30, b"metadata.json") || at(30, b"config.json");
        if at(0, b"\x89HDF\r\n\x1a\n") {
            Some(Self::Hdf5)
        } else if safetensors && at(4, &[0; 4]) {
            Some(Self::Safetensors)
        } else if at(0, b"PK\x03\x04") && keras_3 {
            Some(Self::Keras3)
        } else if at(0, b"PK") || at(0, b"\x80") || at(257, b"ustar") {
            Some(Self::Pytorch)
        } else if safetensors {
            Some(Self::Safetensors)
        } else {
            None
        }
    }
}

fn start(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(512).read_to_end(&mut start)?;
    Ok(start)
}

fn safetensors(path: &Path) -> Result<(Source, Vec<Stored>), String> {
    let (tensors, metadata) = torch::open_safetensors(path)?;
    let source = match metadata.get(METADATA) {
        Some(json) => Source::Checkpoint(checkpoint::network_of(json)?),
        None => Source::Torch,
    };
    Ok((source, tensors))
}
