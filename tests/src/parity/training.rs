//! Training steps of ours on the batches, from the weights, that Keras had.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use quartet_engine::adam::AdamConfig;
use quartet_engine::input::Batch;
use quartet_engine::models::parameters::{parameters, with_values};
use quartet_engine::models::{Network, NetworkConfig};
use quartet_engine::train::state::TrainState;
use quartet_engine::weights::WeightsFile;
use quartet_shared::dataset::EMOTIONS;
use quartet_shared::ids::Epoch;
use quartet_shared::spec::Backbone;
use serde::Deserialize;

use super::{Tensors, json, references, relative};

const DECAY: f64 = 1e-3;
const MOMENTUM: f64 = 0.99;

/// The backbones that Keras trained.
pub const BACKBONES: [Backbone; 3] = [Backbone::Resnet50, Backbone::InceptionV3, Backbone::Vgg16];

/// A floating-point width, in which both sides compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// float32.
    Single,
    /// float64.
    Double,
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let losses: Vec<String> = self.losses.iter().map(|x| format!("{x:.1e}")).collect();
        write!(
            f,
            "losses {}; learning rates {:.1e}; statistics {:.1e}; weights {:.1e}",
            losses.join(" "),
            self.learning_rates,
            self.statistics,
            self.weights
        )
    }
}

impl Width {
    fn bits(self) -> u32 {
        match self {
            Self::Single => 32,
            Self::Double => 64,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Steps {
    losses: Vec<f64>,
    learning_rates: Vec<f64>,
}

impl Steps {
    fn read(folder: &Path, width: Width) -> Self {
        let mut widths: BTreeMap<String, Self> = json(&folder.join("steps.json"));
        let key = format!("float{}", width.bits());
        widths.remove(&key).expect("there is such a run")
    }
}

/// A deviation from Keras that has to be noticed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// There is none.
    None,
    /// Epsilon inside of Adam's bias correction, as in the paper's first formula and in burn.
    EpsilonInside,
    /// The rate of update `k` is that of `k + 1`.
    DecayOneTooEarly,
    /// The rate stays.
    NoDecay,
    /// PyTorch's default momentum of batch normalisation.
    Momentum,
}

/// What came of the steps.
struct Trained {
    losses: Vec<f64>,
    learning_rates: Vec<f64>,
    end: BTreeMap<String, Vec<f64>>,
}

/// Largest relative differences from Keras.
#[derive(Clone, Debug)]
pub struct Differences {
    /// Of each step's loss.
    pub losses: Vec<f64>,
    /// Of the learning rates.
    pub learning_rates: f64,
    /// Of the running statistics after the last of ten steps, relative to the largest of their tensor; with
    /// fewer steps 0.
    pub statistics: f64,
    /// The same of all other weights.
    pub weights: f64,
}

fn network(
    folder: &Path,
    stem: &str,
    backbone: Backbone,
    momentum: f64,
    device: &Device,
) -> Network {
    let weights = WeightsFile::open(&folder.join(format!("{stem}.h5"))).expect("Keras wrote it");
    let config = NetworkConfig {
        backbone,
        variant: weights.variant(backbone).expect("it is of this backbone"),
        width: 1.0,
        image_size: 75,
        dropout: 0.0,
        batch_norm_momentum: momentum,
        classes: EMOTIONS.map(str::to_owned).to_vec(),
    };
    let network = weights.load(config.init(device, 0)).expect("it fits");
    let head = Tensors::read(&folder.join(format!("{stem}_head.safetensors")));
    let mut left = head.names();
    let network = with_values(network, |name, shape| {
        name.starts_with("head.").then(|| {
            assert_eq!(head.shape(name), shape, "{name}");
            left.retain(|other| other != name);
            head.f32(name)
        })
    });
    assert!(left.is_empty(), "{left:?}");
    network
}

fn end(network: &Network) -> BTreeMap<String, Vec<f64>> {
    let parameters = parameters(network).into_iter();
    parameters
        .map(|(name, parameter)| {
            let values = parameter.values.into_data_as::<f64>();
            (name, values.try_to_vec().expect("converted"))
        })
        .collect()
}

fn train(
    folder: &Path,
    keras: &Steps,
    backbone: Backbone,
    steps: usize,
    fault: Fault,
    device: &Device,
) -> Trained {
    let momentum = if fault == Fault::Momentum {
        0.9
    } else {
        MOMENTUM
    };
    let network = network(
        folder,
        "start",
        backbone,
        momentum,
        &device.clone().autodiff(),
    );
    let batches = Tensors::read(&folder.join("batches.safetensors"));
    let shape = batches.shape("images");
    let images = batches.f32("images");
    let labels = batches.i64("labels");
    let batch = shape[1];
    let image: usize = shape[2..].iter().product();
    let learning_rate = keras.learning_rates[0];
    let decay = if fault == Fault::NoDecay { 0.0 } else { DECAY };
    let mut state = TrainState::new(network, AdamConfig::keras(learning_rate, decay), 0);
    let epsilon = state.adam.config.epsilon;
    let (mut losses, mut learning_rates) = (Vec::new(), Vec::new());
    for step in 0..steps {
        let pixels = images[step * batch * image..(step + 1) * batch * image].to_vec();
        let pixels = TensorData::new(pixels, [batch, shape[2], shape[3], shape[4]]);
        let classes = labels[step * batch..(step + 1) * batch].to_vec();
        let batch = Batch {
            images: Tensor::from_data(pixels, device),
            labels: Tensor::<2, Int>::from_data(TensorData::new(classes, [batch, 1]), device),
            distributions: None,
        };
        match fault {
            Fault::EpsilonInside => {
                let correction = (1.0 - 0.999_f64.powi(step as i32 + 1)).sqrt();
                state.adam.config.epsilon = epsilon * correction;
            }
            Fault::DecayOneTooEarly => {
                let k = step as f64;
                state.adam.config.learning_rate =
                    learning_rate * (1.0 + DECAY * k) / (1.0 + DECAY * (k + 1.0));
            }
            Fault::None | Fault::NoDecay | Fault::Momentum => {}
        }
        learning_rates.push(state.adam.learning_rate());
        let (next, statistics) = state.step(batch, Epoch(1), step as u64);
        state = next;
        let statistics = statistics.into_data_as::<f64>();
        losses.push(statistics.try_to_vec::<f64>().expect("converted")[0]);
    }
    Trained {
        losses,
        learning_rates,
        end: end(&state.network.valid()),
    }
}

/// Takes the first `steps` of Keras' ten steps on `device`, whose floating-point width is `width`, and
/// compares.
///
/// # Panics
/// If a file of the references is missing or wrong.
#[must_use]
pub fn compare(
    backbone: Backbone,
    width: Width,
    steps: usize,
    fault: Fault,
    device: &Device,
) -> Differences {
    let folder = references().join("training").join(backbone.as_str());
    let keras = Steps::read(&folder, width);
    let trained = train(&folder, &keras, backbone, steps, fault, device);
    let relative_to = |found: &[f64], expected: &[f64]| -> Vec<f64> {
        found
            .iter()
            .zip(expected)
            .map(|(a, b)| (a / b - 1.0).abs())
            .collect()
    };
    let mut differences = Differences {
        losses: relative_to(&trained.losses, &keras.losses),
        learning_rates: relative_to(&trained.learning_rates, &keras.learning_rates)
            .into_iter()
            .fold(0.0, f64::max),
        statistics: 0.0,
        weights: 0.0,
    };
    if steps == keras.losses.len() {
        let stem = format!("end{}", width.bits());
        let expected = end(&network(&folder, &stem, backbone, MOMENTUM, device));
        assert_eq!(trained.end.len(), expected.len());
        for (name, expected) in &expected {
            let found = relative(&trained.end[name], expected);
            let worst = if name.contains(".running_") {
                &mut differences.statistics
            } else {
                &mut differences.weights
            };
            *worst = if found.is_nan() {
                f64::NAN
            } else {
                worst.max(found)
            };
        }
    }
    differences
}
