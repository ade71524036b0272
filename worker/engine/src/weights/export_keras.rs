//! Whole networks as Keras 3's `.weights.h5`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use hdf5_pure::{FileBuilder, GroupBuilder};
use quartet_shared::spec::{Family, Variant};
use safetensors::SafeTensorError;

use super::error::WeightsError;
use super::export::Exported;
use super::families::{files, layers};
use super::keras3::{self, LAYERS};
use super::key_mapping::Layout;
use super::layer::Kind;
use crate::models::Network;
use crate::models::parameters::{Parameter, parameters};

/// Writes the whole of `network` for `load_weights` of the notebook's model in Keras 3: the layers of
/// `base = keras.applications.X(include_top=False)`, then BatchNormalization, GlobalAveragePooling2D, and
/// twice Dropout, Dense, BatchNormalization, then Dropout and Dense. Where Keras has no gamma, it becomes
/// part of the convolution before.
///
/// # Errors
/// The file is there already or cannot be written, or the network is a ResNet50 that today's Keras has not:
/// v1.5, or that of 2018.
pub fn export_keras(network: &Network, path: &Path) -> Result<Exported, WeightsError> {
    let config = network.config();
    let exported = match (config.backbone.facts().family, config.variant) {
        (Family::Resnet50, Variant::Torch | Variant::Keras2018) => {
            return Err(WeightsError::NotExpressible {
                path: path.to_owned(),
                reason: "today's Keras has another ResNet50 (v1), which computes something else",
            });
        }
        (Family::InceptionV3, Variant::Torch) => Exported::OtherBorders,
        _ => Exported::Same,
    };
    let failed = |source: SafeTensorError| WeightsError::Write {
        path: path.to_owned(),
        source,
    };
    let mut file = FileBuilder::new();
    let mut group = file.create_group(LAYERS);
    put(network, &mut group);
    file.add_group(group.finish());
    let bytes = file
        .finish()
        .map_err(|error| failed(std::io::Error::other(error).into()))?;
    let mut out = File::create_new(path).map_err(|error| failed(error.into()))?;
    out.write_all(&bytes).map_err(|error| {
        let _ = fs::remove_file(path);
        failed(error.into())
    })?;
    Ok(exported)
}

/// Puts the layers' groups into the group of all.
fn put(network: &Network, group: &mut GroupBuilder) {
    let config = network.config();
    let parameters = parameters(network);
    let mut numbers = BTreeMap::new();
    let mut next = |class: &'static str| {
        let number = numbers.entry(class).or_insert(0);
        let name = keras3::member(class, *number);
        *number += 1;
        name
    };
    let layers = layers(config.backbone, config.variant);
    let folds =
        config.variant == Variant::Torch && !files(config.backbone).has_gamma(Variant::Keras);
    let mut gammas = BTreeMap::new();
    for layer in layers
        .iter()
        .filter(|layer| folds && layer.kind == Kind::Norm)
    {
        // `<unit>.norm` follows `<unit>.conv`.
        let unit = layer.ours.strip_suffix("norm").unwrap_or(&layer.ours);
        let gamma = values(&parameters[&format!("{}.gamma", layer.ours)]);
        gammas.insert(format!("{unit}conv"), gamma.clone());
        gammas.insert(layer.ours.clone(), gamma);
    }
    for layer in &layers {
        let gamma = gammas.get(&layer.ours);
        let mut weights = Vec::new();
        for names in layer.kind.parameters() {
            let Some(parameter) = parameters.get(&format!("{}.{}", layer.ours, names.ours)) else {
                continue;
            };
            let mut values = values(parameter);
            match (names.ours, gamma) {
                ("gamma", _) if !files(config.backbone).has_gamma(Variant::Keras) => continue,
                ("weight" | "running_mean", Some(gamma)) => scale(&mut values, gamma),
                _ => {}
            }
            let shape = Layout::Keras.stored(&parameter.shape);
            weights.push((shape, Layout::Keras.theirs(values, &parameter.shape)));
        }
        let class = keras3::class(layer.kind);
        push(group, &next(class), &weights);
    }
    for (class, layer) in [
        (keras3::NORM, "head.norm"),
        (DENSE, "head.hidden1.dense"),
        (keras3::NORM, "head.hidden1.norm"),
        (DENSE, "head.hidden2.dense"),
        (keras3::NORM, "head.hidden2.norm"),
        (DENSE, "head.logits"),
    ] {
        let names = match class {
            DENSE => &["weight", "bias"][..],
            _ => &["gamma", "beta", "running_mean", "running_var"],
        };
        let weights = names.iter().map(|last| {
            let parameter = &parameters[&format!("{layer}.{last}")];
            (parameter.shape.clone(), values(parameter))
        });
        push(group, &next(class), &weights.collect::<Vec<_>>());
    }
}

/// The class of dense layers.
const DENSE: &str = "dense";

fn values(parameter: &Parameter) -> Vec<f32> {
    let values = parameter.values.clone().into_data_as::<f32>();
    values.try_to_vec().expect("they were converted")
}

/// Multiplies what belongs to each output channel by its factor.
fn scale(values: &mut [f32], factors: &[f32]) {
    let each = values.len() / factors.len();
    for (values, factor) in values.chunks_exact_mut(each).zip(factors) {
        values.iter_mut().for_each(|value| *value *= factor);
    }
}

fn push(group: &mut GroupBuilder, name: &str, weights: &[(Vec<usize>, Vec<f32>)]) {
    let mut layer = group.create_group(name);
    let mut vars = layer.create_group("vars");
    for (index, (shape, values)) in weights.iter().enumerate() {
        let shape: Vec<u64> = shape.iter().map(|&extent| extent as u64).collect();
        let dataset = vars.create_dataset(&index.to_string());
        dataset.with_f32_data(values).with_shape(&shape);
    }
    layer.add_group(vars.finish());
    group.add_group(layer.finish());
}
