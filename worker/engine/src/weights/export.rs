//! Our weights in timm's and PyTorch's names and layouts.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use quartet_shared::spec::{Family, Variant};

use super::error::WeightsError;
use super::families::layers;
use crate::models::Network;
use crate::models::parameters::{Parameter, parameters};

/// How an exported network compares with timm's of the same weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported {
    /// It computes the same.
    Same,
    /// timm's `inception_v3` counts the padding in its means, Keras' does not: feature maps differ near their
    /// borders, and small maps are all border.
    OtherBorders,
}

/// Writes the backbone of `network` as timm's `resnet50`, `vgg16`, `inception_v3` or `inception_resnet_v2`
/// names it, as safetensors. The head is left out, as timm has none like it: the file is for
/// `timm.create_model(.., num_classes=0)`, and of VGG16 for `load_state_dict(.., strict=False)`, since timm
/// counts `pre_logits` to the backbone.
///
/// Where the network has no gamma, ones are written. The same weights make the same bytes. Networks of other
/// widths than 1 get timm's names too, but timm itself builds none of that width.
///
/// # Errors
/// The file cannot be written, or the network is ResNet50 in one of Keras' variants: timm has only v1.5, with
/// the stride in another place and without biases.
pub fn export_timm(network: &Network, path: &Path) -> Result<Exported, WeightsError> {
    let config = network.config();
    let exported = match (config.backbone.facts().family, config.variant) {
        (Family::Resnet50, Variant::Keras | Variant::Keras2018) => {
            return Err(WeightsError::NotExpressible {
                path: path.to_owned(),
                reason: "timm has no ResNet50 in Keras' layout (v1), only v1.5, which computes something \
                         else",
            });
        }
        (Family::InceptionV3, Variant::Keras | Variant::Keras2018) => Exported::OtherBorders,
        _ => Exported::Same,
    };
    write(state_dict(network), ("format", "pt"), path)?;
    Ok(exported)
}

/// Writes the whole of `network` as safetensors for the module in `docs/torch_network.py`: the backbone in
/// timm's names below `backbone.`, the head in PyTorch's layouts below `head.`. The metadata has an entry
/// `network`: what the network is, as JSON. The same weights make the same bytes.
///
/// # Errors
/// The file cannot be written.
pub fn export_torch(network: &Network, path: &Path) -> Result<(), WeightsError> {
    let backbone = state_dict(network).into_iter();
    let mut state: BTreeMap<String, Parameter> = backbone
        .map(|(name, parameter)| (format!("backbone.{name}"), parameter))
        .collect();
    for (name, parameter) in parameters(network) {
        let Some((layer, last)) = name.strip_prefix("head.").and_then(|n| n.rsplit_once('.'))
        else {
            continue;
        };
        let last = match last {
            "gamma" => "weight",
            "beta" => "bias",
            last => last,
        };
        state.insert(format!("head.{layer}.{last}"), transposed(parameter));
    }
    let config = serde_json::to_string(network.config()).expect("it can be written as JSON");
    write(state, ("network", &config), path)
}

/// A dense kernel as `[out, in]`; all else as it is.
fn transposed(parameter: Parameter) -> Parameter {
    let [input, output] = parameter.shape[..] else {
        return parameter;
    };
    let values = parameter.values.reshape([input, output]).transpose();
    Parameter {
        shape: vec![output, input],
        values: values.reshape([-1]),
    }
}

/// Writes tensors with one entry of metadata: several would be written in random order.
fn write(
    tensors: BTreeMap<String, Parameter>,
    (key, value): (&str, &str),
    path: &Path,
) -> Result<(), WeightsError> {
    let metadata = HashMap::from([(key.to_owned(), value.to_owned())]);
    let failed = |source| WeightsError::Write {
        path: path.to_owned(),
        source,
    };
    safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(failed)?;
    // It was made as a temporary file, which nobody else may read.
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .map_err(|error| failed(safetensors::SafeTensorError::IoError(error)))?;
    Ok(())
}

/// The backbone's parameters by timm's names.
fn state_dict(network: &Network) -> BTreeMap<String, Parameter> {
    let mut parameters = parameters(network);
    let mut state = BTreeMap::new();
    for layer in layers(network.config().backbone, network.config().variant) {
        for names in layer.kind.parameters() {
            if let Some(parameter) = parameters.remove(&format!("{}.{}", layer.ours, names.ours)) {
                state.insert(format!("{}.{}", layer.torch, names.torch), parameter);
            }
        }
    }
    state
}
