//! Tests with files that they write themselves, of networks narrow enough to be small.

mod classic;
mod errors;
mod exports;
mod files;
mod formats;
mod hostile;
mod keras3;
mod mutated;

use std::collections::BTreeSet;
use std::path::Path;

use burn::tensor::{Device, TensorData};
use quartet_shared::spec::Backbone;

use super::families::{files, layers};
use super::layer::BACKBONE;
use super::{WeightsError, WeightsFile};
use crate::models::parameters::{parameters, shapes};
use crate::models::{Network, NetworkConfig, Variant};

/// Every network that published weights make.
const NETWORKS: [(Backbone, Variant); 9] = [
    (Backbone::Vgg16, Variant::Keras),
    (Backbone::Resnet50, Variant::Keras),
    (Backbone::Resnet50, Variant::Keras2018),
    (Backbone::Resnet50, Variant::Torch),
    (Backbone::Resnet50V1_5, Variant::Torch),
    (Backbone::InceptionV3, Variant::Keras),
    (Backbone::InceptionV3, Variant::Torch),
    (Backbone::InceptionResnetV2, Variant::Keras),
    (Backbone::InceptionResnetV2, Variant::Torch),
];

/// A width at which most layers differ in their channels.
const WIDTH: f64 = 0.05;

fn config(backbone: Backbone, variant: Variant) -> NetworkConfig {
    NetworkConfig {
        backbone,
        variant,
        width: WIDTH,
        image_size: backbone.minimum_image_size() as usize,
        dropout: 0.5,
        batch_norm_momentum: 0.99,
        classes: ["angry", "happy", "sad"].map(str::to_owned).to_vec(),
    }
}

/// A network of which no two parameters are alike.
fn network(config: &NetworkConfig, seed: u64) -> Network {
    let network = config.init(&Device::flex(), seed);
    let has_gamma = files(config.backbone).has_gamma(config.variant);
    let mut count = 0;
    crate::models::parameters::with_values(network, |name, shape| {
        count += 1;
        let constant = !has_gamma && name.starts_with(BACKBONE);
        let values = (0..shape.iter().product::<usize>())
            .map(|i| 0.5 + ((i * 7 + count * 13 + seed as usize * 5) % 101) as f32 / 101.0);
        (shape.len() == 1 && !(constant && name.ends_with("gamma"))).then(|| values.collect())
    })
}

/// Names and values of the backbone, or of all.
fn values(network: &Network, head: bool) -> Vec<(String, TensorData)> {
    let parameters = parameters(network).into_iter();
    parameters
        .filter(|(name, _)| head || name.starts_with(BACKBONE))
        .map(|(name, parameter)| (name, parameter.values.into_data()))
        .collect()
}

/// A network of the configuration, in the variant that the file is of, with the file's weights.
fn load(path: &Path, config: &NetworkConfig) -> Result<Network, WeightsError> {
    let file = WeightsFile::open(path)?;
    let config = NetworkConfig {
        variant: file.variant(config.backbone)?,
        ..config.clone()
    };
    file.load(config.init(&Device::flex(), 77))
}

/// The message of the refusal, which names the file.
fn refusal(path: &Path, config: &NetworkConfig) -> String {
    let error = load(path, config).expect_err("it is to be refused");
    let message = error.to_string();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(message.contains(name), "{message}");
    message
}

#[track_caller]
fn assert_ends(message: &str, end: &str) {
    assert!(message.ends_with(end), "{message}");
}

#[test]
fn the_table_has_every_parameter_of_every_network_once() {
    for (backbone, variant) in NETWORKS {
        let shapes = shapes(&network(&config(backbone, variant), 1));
        let expected: BTreeSet<String> = shapes
            .keys()
            .filter(|name| name.starts_with(BACKBONE))
            .cloned()
            .collect();
        let layers = layers(backbone, variant);
        let found: Vec<String> = layers
            .iter()
            .flat_map(|layer| {
                let names = layer.kind.parameters().iter();
                names.map(|names| format!("{}.{}", layer.ours, names.ours))
            })
            .filter(|name| shapes.contains_key(name))
            .collect();
        assert_eq!(found.len(), expected.len(), "{backbone} {variant}");
        assert_eq!(BTreeSet::from_iter(found), expected, "{backbone} {variant}");
        let torch: BTreeSet<&str> = layers.iter().map(|layer| layer.torch.as_str()).collect();
        assert_eq!(torch.len(), layers.len(), "{backbone} {variant}");
    }
}
