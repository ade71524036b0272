//! Experiments that have a name.

use std::fmt;
use std::str::FromStr;

use super::{
    Augmentation, Backbone, Ensemble, ExperimentSpec, Freeze, Precision, RunSpec, Weights,
    derived_seed,
};

/// An experiment that comes with Quartet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// The notebook's numbers: four backbones at 200x200, made for GPUs.
    Fer2013,
    /// The same four, narrow and small: minutes on a CPU.
    Demo,
}

/// A name that is no preset's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no preset {0:?}; there are fer2013 and demo")]
pub struct UnknownPreset(pub String);

impl Preset {
    /// All presets.
    pub const ALL: [Self; 2] = [Self::Fer2013, Self::Demo];

    /// Its name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fer2013 => "fer2013",
            Self::Demo => "demo",
        }
    }

    /// The experiment; it has the preset's name.
    #[must_use]
    pub fn spec(self) -> ExperimentSpec {
        match self {
            Self::Fer2013 => fer2013(),
            Self::Demo => demo(),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Self, UnknownPreset> {
        Self::ALL
            .into_iter()
            .find(|preset| preset.as_str() == name)
            .ok_or_else(|| UnknownPreset(name.to_owned()))
    }
}

const SEED: u64 = 1;

/// The notebook's four in its order, with their learning rates.
const FOUR: [(Backbone, f64); 4] = [
    (Backbone::InceptionResnetV2, 1e-4),
    (Backbone::Vgg16, 5e-4),
    (Backbone::Resnet50, 5e-4),
    (Backbone::InceptionV3, 5e-4),
];

/// Learning rates and widths of the same four in the demo. The rates were found by trial, for few steps from
/// random weights: VGG16, which has no batch normalisation in its body, needs a small one.
const DEMO: [(f64, f64); 4] = [(4e-3, 0.0625), (2e-4, 0.125), (8e-3, 0.125), (8e-3, 0.125)];

fn fer2013() -> ExperimentSpec {
    let run = |(backbone, learning_rate): (Backbone, f64)| {
        let name = backbone.run_name();
        RunSpec {
            seed: derived_seed(SEED, &name),
            name,
            backbone,
            learning_rate,
            decay: 1e-3,
            dropout: 0.5,
            width: 1.0,
            image_size: 200,
            weights: Weights::Imagenet,
            freeze: Freeze::None,
            ensemble_weight: 1.0,
        }
    };
    ExperimentSpec {
        name: Preset::Fer2013
            .as_str()
            .parse()
            .expect("presets have valid names"),
        seed: SEED,
        batch_size: 32,
        epochs: 50,
        patience: 10,
        batch_norm_momentum: 0.99,
        precision: Precision::Tf32,
        deterministic: false,
        ensemble: Ensemble::Finished,
        augmentation: Augmentation {
            height_shift: 0.1,
            width_shift: 0.1,
            zoom: 0.1,
            horizontal_flip: true,
        },
        runs: FOUR.map(run).to_vec(),
    }
}

fn demo() -> ExperimentSpec {
    let full = fer2013();
    let run = |(run, (learning_rate, width)): (RunSpec, (f64, f64))| RunSpec {
        learning_rate,
        decay: 2e-3,
        dropout: 0.1,
        width,
        image_size: run.backbone.minimum_image_size().max(48),
        weights: Weights::None,
        ..run
    };
    ExperimentSpec {
        name: Preset::Demo
            .as_str()
            .parse()
            .expect("presets have valid names"),
        batch_size: 16,
        epochs: 8,
        patience: 8,
        batch_norm_momentum: 0.9,
        augmentation: Augmentation {
            height_shift: 0.05,
            width_shift: 0.05,
            zoom: 0.05,
            horizontal_flip: true,
        },
        runs: full.runs.into_iter().zip(DEMO).map(run).collect(),
        ..full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_found_by_name() {
        for preset in Preset::ALL {
            assert_eq!(preset.to_string().parse(), Ok(preset));
            assert_eq!(preset.spec().name.as_str(), preset.as_str());
            preset.spec().validate().unwrap();
        }
        assert!("full".parse::<Preset>().is_err());
    }

    #[test]
    fn fer2013_is_the_notebook() {
        let spec = Preset::Fer2013.spec();
        let names: Vec<_> = spec.runs.iter().map(|run| run.name.as_str()).collect();
        assert_eq!(
            names,
            ["inception_resnet_v2", "vgg16", "resnet50", "inception_v3"]
        );
        let rates: Vec<_> = spec.runs.iter().map(|run| run.learning_rate).collect();
        assert_eq!(rates, [1e-4, 5e-4, 5e-4, 5e-4]);
        assert!(
            spec.runs
                .iter()
                .all(|run| run.image_size == 200 && run.decay == 1e-3)
        );
        assert_eq!((spec.batch_size, spec.epochs, spec.patience), (32, 50, 10));
    }

    #[test]
    fn demo_images_are_as_small_as_the_backbones_allow() {
        let sizes: Vec<_> = Preset::Demo
            .spec()
            .runs
            .iter()
            .map(|run| run.image_size)
            .collect();
        assert_eq!(sizes, [75, 48, 48, 75]);
    }
}
