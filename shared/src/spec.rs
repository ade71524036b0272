//! What an experiment trains: the runs, their backbones and everything that decides the result.
//!
//! An [`ExperimentSpec`] is complete: no default is filled in later, so that `spec.json` says all.
//! People write TOML, where whatever is left out comes from the `fer2013` preset.

mod backbone;
mod changes;
mod freeze;
mod key;
mod keys;

mod preset;
mod settings;
mod toml_form;
mod toml_reader;
mod toml_writer;
mod validate;
mod variant;
mod weights;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::{ExperimentName, RunName};

pub use backbone::{Backbone, Facts, Family, UnknownBackbone};
pub use changes::{Change, Effect, Place, changes};
pub use freeze::Freeze;
pub use keys::MAX_IMAGE_SIZE;
pub use preset::{Preset, UnknownPreset};
pub use toml_form::from_toml;
pub use toml_reader::SpecError;
pub use toml_writer::to_toml;
pub use validate::InvalidSpec;
pub use variant::Variant;
pub use weights::{HubFile, OtherRun, UnknownWeights, Weights};

/// Arithmetic of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats throughout.
    F32,
    /// As [`Self::F32`] on CPUs. LibTorch on GPUs rounds the factors of products and convolutions to
    /// TensorFloat-32, with a mantissa of 10 bits, as TensorFlow does.
    Tf32,
    /// Mixed: the backbone's convolutions and activations in bfloat16; weights, batch normalisation, the
    /// head, the loss and the optimizer in 32-bit floats, on GPUs as with [`Self::Tf32`]. LibTorch only.
    Bf16,
}

impl Precision {
    /// All that there are.
    pub const ALL: [Self; 3] = [Self::F32, Self::Tf32, Self::Bf16];

    /// As TOML has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|known| known.as_str() == text);
        found.ok_or_else(|| UnknownPrecision(text.to_owned()))
    }
}

/// A text that names no precision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of \"f32\", \"tf32\" and \"bf16\"")]
pub struct UnknownPrecision(pub String);

/// Which runs the ensemble needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ensemble {
    /// Those that finish: one that fails for good is left out, and the report says so.
    #[default]
    Finished,
    /// All: when one fails for good, nothing is evaluated.
    All,
}

impl Ensemble {
    /// As TOML has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::All => "all",
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Ensemble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Ensemble {
    type Err = UnknownEnsemble;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = [Self::Finished, Self::All];
        let found = known.into_iter().find(|known| known.as_str() == text);
        found.ok_or_else(|| UnknownEnsemble(text.to_owned()))
    }
}

/// A text that does not say which runs the ensemble needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither \"finished\" nor \"all\"")]
pub struct UnknownEnsemble(pub String);

/// The ranges of random changes to training images, as Keras' `ImageDataGenerator` has them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Vertical shift: uniform in plus or minus this fraction of the height.
    pub height_shift: f64,
    /// Horizontal shift: uniform in plus or minus this fraction of the width.
    pub width_shift: f64,
    /// Zoom: uniform in 1 plus or minus this, drawn for each axis on its own.
    pub zoom: f64,
    /// Whether half of the images are mirrored.
    pub horizontal_flip: bool,
}

/// One run: the training of one backbone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// Its name, unique within the experiment.
    pub name: RunName,
    /// The network.
    pub backbone: Backbone,
    /// Learning rate of Adam before decay.
    pub learning_rate: f64,
    /// Decay: the rate of update `k` (from 0) is `learning_rate / (1 + decay * k)`.
    pub decay: f64,
    /// Dropout rate in the head, in `[0, 1)`.
    pub dropout: f64,
    /// Channel multiplier of the backbone and the head's hidden layers; 1.0 is the published network.
    pub width: f64,
    /// Height and width of the network's input in pixels.
    pub image_size: u32,
    /// Seed of the run's weights, order, augmentation and dropout.
    pub seed: u64,
    /// Initial weights.
    pub weights: Weights,
    /// First layers of the backbone that are not trained.
    // One that was stored before there was this has none, and keeps its identity.
    #[serde(default, skip_serializing_if = "Freeze::is_none")]
    pub freeze: Freeze,
    /// Weight in the ensemble, relative to the others'.
    pub ensemble_weight: f64,
}

impl RunSpec {
    /// Bytes that a file of a checkpoint of this run can have at most. The bound is generous: four numbers of
    /// 4 bytes for each parameter of the backbone, where weights have one and the training state two, and
    /// 64 MiB beside them for the head and the file's header; all of that for the network's width.
    #[must_use]
    pub fn checkpoint_limit(&self) -> u64 {
        // Parameters of a convolution grow with the square of the width. A narrow network has a least number
        // of channels, but never more than the published one.
        let scale = self.width.max(1.0).powi(2);
        let parameters = self.backbone.facts().parameters;
        (scale * (parameters * 4 * 4 + (64 << 20)) as f64) as u64
    }

    /// Expected training time of one epoch, relative to other runs of the experiment: multiply-adds of
    /// one image. For scheduling only (the longest run goes first).
    #[must_use]
    pub fn relative_cost(&self) -> f64 {
        let side = f64::from(self.image_size) / 200.0;
        self.backbone.relative_cost() * self.width.powi(2) * side.powi(2)
    }
}

/// A whole experiment, complete and valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExperimentSpec {
    /// Its name.
    pub name: ExperimentName,
    /// What the runs' seeds are derived from, unless they have their own: see [`derived_seed`].
    pub seed: u64,
    /// Images per training step.
    pub batch_size: u32,
    /// Epochs at most.
    pub epochs: u32,
    /// Early stopping after this many epochs in a row without a better validation accuracy.
    pub patience: u32,
    /// Momentum of batch normalisation as Keras counts it:
    /// running = momentum * running + (1 - momentum) * batch.
    pub batch_norm_momentum: f64,
    /// Arithmetic.
    pub precision: Precision,
    /// Whether GPUs compute only in ways that give the same bytes each time. CPUs always do.
    // One that was stored before there was this has none, and keeps its identity.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deterministic: bool,
    /// Which runs the ensemble needs.
    #[serde(default, skip_serializing_if = "Ensemble::is_default")]
    pub ensemble: Ensemble,
    /// Augmentation of training images.
    pub augmentation: Augmentation,
    /// The runs, at least one.
    pub runs: Vec<RunSpec>,
}

impl ExperimentSpec {
    /// The run of this name.
    #[must_use]
    pub fn run(&self, name: &RunName) -> Option<&RunSpec> {
        self.runs.iter().find(|run| run.name == *name)
    }
}

/// The seed of a run that has none of its own: the first 8 bytes of the SHA-256 of `seed/run`, big endian,
/// without the highest bit (integers of TOML are signed).
#[must_use]
pub fn derived_seed(seed: u64, run: &RunName) -> u64 {
    let digest: [u8; 32] = Sha256::digest(format!("{seed}/{run}")).into();
    let first = digest[..8]
        .iter()
        .fold(0, |value, &byte| value << 8 | u64::from(byte));
    first & i64::MAX as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_seed_depends_on_seed_and_name_only() {
        let a: RunName = "a".parse().unwrap();
        let b: RunName = "b".parse().unwrap();
        // printf 1/a | sha256sum
        assert_eq!(derived_seed(1, &a), 0x3f1d987701909d7b);
        assert_ne!(derived_seed(1, &a), derived_seed(1, &b));
        assert_ne!(derived_seed(1, &a), derived_seed(2, &a));
    }

    #[test]
    fn cost_grows_with_pixels_and_channels() {
        let mut run = Preset::Fer2013.spec().runs.remove(1);
        let whole = run.relative_cost();
        run.width = 0.5;
        run.image_size = 100;
        assert!((run.relative_cost() - whole / 16.0).abs() < 1e-9);
    }

    #[test]
    fn a_checkpoint_may_grow_with_the_width_and_no_further() {
        let mut run = Preset::Fer2013.spec().runs.remove(1);
        assert_eq!(run.backbone, Backbone::Vgg16);
        assert_eq!(run.checkpoint_limit(), 16 * 14_714_688 + (64 << 20));
        let whole = run.checkpoint_limit();
        run.width = 0.01;
        assert_eq!(run.checkpoint_limit(), whole);
        run.width = 2.0;
        assert_eq!(run.checkpoint_limit(), 4 * whole);
    }

    #[test]
    fn a_spec_survives_json() {
        for preset in Preset::ALL {
            let spec = preset.spec();
            let json = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<ExperimentSpec>(&json).unwrap(), spec);
        }
    }

    /// Needs serde_json's feature `float_roundtrip`: without it, some differ in the last place.
    #[test]
    fn floats_survive_json_bit_by_bit() {
        for i in 1..2000 {
            let value = 1.0 / f64::from(i);
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(
                serde_json::from_str::<f64>(&json).unwrap().to_bits(),
                value.to_bits()
            );
        }
    }
}
