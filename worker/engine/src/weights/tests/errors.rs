//! Files that do not fit are refused with all that is wrong, in the file's own names.

use burn::tensor::Device;
use quartet_shared::spec::Backbone;

use super::files::{Style, keras_file, keras_layers, safetensors_file, torch_tensors, write};
use super::{assert_ends, config, network, refusal};
use crate::checkpoint::save_network;
use crate::models::{NetworkConfig, Variant};
use crate::weights::WeightsFile;

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(Backbone::Resnet50V1_5, Variant::Torch);
    let mut tensors = torch_tensors(&network(&config, 1));
    tensors.retain(|(name, _, _)| !name.starts_with("layer4.2.bn3"));
    tensors.push(("layer3.6.conv1.weight".to_owned(), vec![1], vec![0.0]));
    let stem = tensors.iter_mut().find(|(name, _, _)| name == "bn1.weight");
    stem.unwrap().1 = vec![2, 2];
    let path = write(
        folder.path(),
        "own.safetensors",
        &safetensors_file(&tensors),
    );
    assert_ends(
        &refusal(&path, &config),
        "own.safetensors does not fit resnet50_v1_5: missing: layer4.2.bn3.weight, layer4.2.bn3.bias, \
         layer4.2.bn3.running_mean and 1 more; unused: layer3.6.conv1.weight; unfit: bn1.weight has shape \
         [2, 2] instead of [4]",
    );
}

#[test]
fn layers_of_keras_in_the_names_of_keras() {
    let folder = tempfile::tempdir().unwrap();
    let vgg = config(Backbone::Vgg16, Variant::Keras);
    let mut layers = keras_layers(&network(&vgg, 1));
    layers.retain(|(name, _)| name != "block4_conv2");
    // VGG19 has this one.
    let extra = ("block3_conv4/kernel:0".to_owned(), vec![1], vec![0.0]);
    layers.insert(8, ("block3_conv4".to_owned(), vec![extra]));
    layers[1].1[0].1 = vec![3, 3, 4, 3];
    let path = write(
        folder.path(),
        "a.h5",
        &keras_file(&layers, Style::default()),
    );
    assert_ends(
        &refusal(&path, &vgg),
        "a.h5 does not fit vgg16: missing: block4_conv2/kernel, block4_conv2/bias; unused: \
         block3_conv4/kernel:0; unfit: block1_conv1/kernel:0 has shape [3, 3, 4, 3] instead of [3, 3, 3, 4]",
    );

    let inception = config(Backbone::InceptionV3, Variant::Keras);
    let mut layers = keras_layers(&network(&inception, 1));
    layers.truncate(layers.len() - 2);
    let gamma = ("auto_1/gamma:0".to_owned(), vec![4], vec![1.0; 4]);
    layers[2].1.push(gamma);
    let path = write(
        folder.path(),
        "b.h5",
        &keras_file(&layers, Style::default()),
    );
    assert_ends(
        &refusal(&path, &inception),
        "missing: weighted layer 187 (batch normalization)/beta, \
         weighted layer 187 (batch normalization)/moving_mean, \
         weighted layer 187 (batch normalization)/moving_variance and 3 more; \
         unused: auto_1/gamma:0",
    );
}

#[test]
fn another_backbone_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let networks = [
        (Backbone::Vgg16, Variant::Keras),
        (Backbone::Resnet50, Variant::Keras),
        (Backbone::Resnet50, Variant::Keras2018),
        (Backbone::Resnet50V1_5, Variant::Torch),
        (Backbone::InceptionV3, Variant::Torch),
        (Backbone::InceptionResnetV2, Variant::Torch),
    ];
    for (backbone, variant) in networks {
        let network = network(&config(backbone, variant), 1);
        let bytes = match variant {
            Variant::Torch => safetensors_file(&torch_tensors(&network)),
            _ => keras_file(&keras_layers(&network), Style::default()),
        };
        let path = write(folder.path(), "file", &bytes);
        for other in Backbone::ALL {
            let same = backbone == other || backbone.as_str().starts_with(other.as_str());
            let found = WeightsFile::open(&path).unwrap().variant(other);
            if same {
                let expected = match backbone {
                    Backbone::Vgg16 => Variant::Keras,
                    _ => variant,
                };
                assert_eq!(found.unwrap(), expected);
                continue;
            }
            let message = found.unwrap_err().to_string();
            let expected = match (backbone, other) {
                (Backbone::Resnet50, Backbone::Resnet50V1_5) => {
                    format!("does not fit resnet50_v1_5: it is of variant {variant}, not torch")
                }
                _ => format!("does not fit {other}: it looks like weights of {backbone}"),
            };
            assert_ends(&message, &expected);
        }
    }
}

#[test]
fn a_network_of_another_variant_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let torch = network(&config(Backbone::Resnet50, Variant::Torch), 1);
    let bytes = safetensors_file(&torch_tensors(&torch));
    let path = write(folder.path(), "file", &bytes);
    let keras = config(Backbone::Resnet50, Variant::Keras).init(&Device::flex(), 1);
    let error = WeightsFile::open(&path).unwrap().load(keras).unwrap_err();
    let expected = "does not fit resnet50: it is of variant torch, not keras";
    assert_ends(&error.to_string(), expected);
}

#[test]
fn another_width_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let half = NetworkConfig {
        width: 0.125,
        ..config(Backbone::Vgg16, Variant::Keras)
    };
    let network = network(&half, 1);
    let own = folder.path().join("own");
    save_network(&network, &own).unwrap();
    let files = [
        write(
            folder.path(),
            "a",
            &safetensors_file(&torch_tensors(&network)),
        ),
        write(
            folder.path(),
            "b",
            &keras_file(&keras_layers(&network), Style::default()),
        ),
        own,
    ];
    for path in files {
        let message = refusal(&path, &config(Backbone::Vgg16, Variant::Keras));
        let expected = "; the file is of width 0.125, the network of width 0.05";
        assert_ends(&message, expected);
    }
}

#[test]
fn whole_numbers_are_no_weights() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(Backbone::Vgg16, Variant::Keras);
    let tensors = torch_tensors(&network(&config, 1));
    let zeros: Vec<Vec<u8>> = tensors.iter().map(|t| vec![0; t.2.len()]).collect();
    let views = tensors.iter().zip(&zeros).map(|((name, shape, _), bytes)| {
        let kind = safetensors::Dtype::I8;
        let view = safetensors::tensor::TensorView::new(kind, shape.clone(), bytes);
        (name, view.unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    let message = refusal(&write(folder.path(), "i8", &bytes), &config);
    assert!(
        message.contains("unfit: features.0.bias holds I8, "),
        "{message}"
    );
}
