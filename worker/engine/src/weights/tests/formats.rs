//! What goes into a file comes out of it, in every format.

use burn::tensor::{Device, Tensor};
use quartet_shared::spec::{Backbone, Family};

use super::classic::classic_keras_file;
use super::files::{
    Named, Style, keras_file, keras_layers, legacy_file, safetensors_file, torch_tensors, write,
    zip_file,
};
use super::{NETWORKS, config, load, network, refusal, values};
use crate::checkpoint::save_network;
use crate::models::{NetworkConfig, Variant};
use crate::weights::{Exported, WeightsError, WeightsFile, export_timm};

#[test]
fn keras_files_as_keras_writes_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(Backbone::Vgg16, Variant::Keras);
    let network = network(&config, 3);
    let bytes = classic_keras_file(&keras_layers(&network));
    let path = write(folder.path(), "weights.h5", &bytes);
    let loaded = load(&path, &config).unwrap();
    assert_eq!(values(&loaded, false), values(&network, false));
}

#[test]
fn keras_files_of_every_network() {
    let folder = tempfile::tempdir().unwrap();
    for (backbone, variant) in NETWORKS {
        if variant == Variant::Torch {
            continue;
        }
        let config = config(backbone, variant);
        let network = network(&config, 3);
        let bytes = keras_file(&keras_layers(&network), Style::default());
        let path = write(folder.path(), "weights.h5", &bytes);
        let loaded = load(&path, &config).unwrap();
        assert_eq!(loaded.config(), &config);
        assert_eq!(
            values(&loaded, false),
            values(&network, false),
            "{config:?}"
        );
    }
}

#[test]
fn keras_files_of_every_style() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(Backbone::Vgg16, Variant::Keras);
    let network = network(&config, 4);
    let mut layers = keras_layers(&network);
    // The classifier.
    for name in ["fc1", "fc2", "predictions"] {
        let kernel = (format!("{name}/kernel:0"), vec![4, 2], vec![0.5; 8]);
        layers.push((name.to_owned(), vec![kernel]));
    }
    for style in 0..16 {
        let style = Style {
            variable: style & 1 > 0,
            split: style & 2 > 0,
            whole_model: style & 4 > 0,
            flat: style & 8 > 0,
        };
        let path = write(folder.path(), "x", &keras_file(&layers, style));
        let loaded = load(&path, &config).unwrap();
        assert_eq!(values(&loaded, false), values(&network, false), "{style:?}");
    }
}

#[test]
fn torch_files_of_every_network_and_format() {
    let folder = tempfile::tempdir().unwrap();
    for (backbone, variant) in NETWORKS {
        if variant != Variant::Torch && backbone != Backbone::Vgg16 {
            continue;
        }
        let config = config(backbone, variant);
        let network = network(&config, 5);
        let mut tensors = torch_tensors(&network);
        let head = match backbone.facts().family {
            Family::Vgg16 => ["head.fc.weight", "classifier.0.weight"],
            Family::InceptionV3 => ["fc.weight", "AuxLogits.conv0.conv.weight"],
            Family::InceptionResnetV2 => ["classif.weight", "last_linear.bias"],
            Family::Resnet50 => ["fc.weight", "fc.bias"],
        };
        for name in head.into_iter().chain(["bn1.num_batches_tracked"]) {
            tensors.push((name.to_owned(), vec![2], vec![1.0, 2.0]));
        }
        let parallel = tensors.iter().cloned();
        let parallel: Vec<_> = parallel
            .map(|(name, shape, values)| (format!("module.{name}"), shape, values))
            .collect();
        let files = [
            safetensors_file(&tensors),
            safetensors_file(&parallel),
            legacy_file(&tensors, ""),
            legacy_file(&tensors, "state_dict"),
            zip_file(&tensors, ""),
            zip_file(&parallel, "model"),
        ];
        for (index, bytes) in files.iter().enumerate() {
            let path = write(folder.path(), "weights", bytes);
            let loaded = load(&path, &config).unwrap_or_else(|e| panic!("{index}: {e}"));
            assert_eq!(loaded.config(), &config);
            assert_eq!(values(&loaded, false), values(&network, false), "{index}");
        }
    }
}

#[test]
fn torch_files_of_training_scripts_and_of_larger_networks() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(Backbone::InceptionV3, Variant::Torch);
    let network = network(&config, 5);
    let tensors = torch_tensors(&network);
    let under = |prefix: &str| -> Vec<Named> {
        let named = tensors.iter().cloned();
        named
            .map(|(name, shape, values)| (format!("{prefix}{name}"), shape, values))
            .collect()
    };
    let other = |name: &str| (name.to_owned(), vec![2], vec![1.0, 2.0]);
    let wrappers = [
        "state_dict",
        "model",
        "model_state_dict",
        "net",
        "model.state_dict",
    ];
    for wrapper in wrappers {
        for prefix in [
            "",
            "module.",
            "_orig_mod.",
            "_orig_mod.module.",
            "backbone.",
            "net.trunk.",
        ] {
            let mut tensors = under(prefix);
            if prefix.ends_with("trunk.") || prefix == "backbone." {
                tensors.push(other("classifier.weight"));
            }
            let path = write(folder.path(), "w", &zip_file(&tensors, wrapper));
            let loaded = load(&path, &config).unwrap_or_else(|e| panic!("{wrapper} {prefix}: {e}"));
            assert_eq!(
                values(&loaded, false),
                values(&network, false),
                "{wrapper} {prefix}"
            );
        }
    }
    let mut beside = under("encoder.");
    beside.extend([other("head.weight"), other("teacher.layer.weight")]);
    let path = write(folder.path(), "w", &safetensors_file(&beside));
    assert_eq!(
        values(&load(&path, &config).unwrap(), false),
        values(&network, false)
    );

    let two = [under("student."), under("teacher.")].concat();
    let path = write(folder.path(), "two.safetensors", &safetensors_file(&two));
    let message = refusal(&path, &config);
    assert!(
        message.contains("such as \"student.\" and \"teacher.\""),
        "{message}"
    );
}

#[test]
fn checkpoints_bring_the_head_where_the_classes_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    for (backbone, variant) in NETWORKS {
        let saved = config(backbone, variant);
        let network = network(&saved, 6);
        save_network(&network, &path).unwrap();
        assert_eq!(WeightsFile::open(&path).unwrap().config(), Some(&saved));

        let loaded = load(&path, &saved).unwrap();
        assert_eq!(values(&loaded, true), values(&network, true));

        let other = NetworkConfig {
            classes: vec!["yes".to_owned(), "no".to_owned()],
            ..saved
        };
        let loaded = load(&path, &other).unwrap();
        assert_eq!(values(&loaded, false), values(&network, false));
        let fresh = other.init(&Device::flex(), 77);
        let head = values(&loaded, false).len();
        assert_eq!(values(&loaded, true)[head..], values(&fresh, true)[head..]);
    }
}

#[test]
fn exports_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("timm.safetensors");
    for (backbone, variant) in NETWORKS {
        let original = network(&config(backbone, variant), 7);
        let exported = match (backbone, variant, export_timm(&original, &path)) {
            (Backbone::Resnet50, Variant::Keras | Variant::Keras2018, found) => {
                assert!(matches!(found, Err(WeightsError::NotExpressible { .. })));
                continue;
            }
            (_, _, exported) => exported.unwrap(),
        };
        let counts_padding = backbone == Backbone::InceptionV3 && variant == Variant::Keras;
        assert_eq!(exported == Exported::OtherBorders, counts_padding);

        let loaded = load(&path, original.config()).unwrap();
        assert_eq!(values(&loaded, false), values(&original, false));
        if exported == Exported::Same {
            let side = 2 * original.config().image_size;
            let x = Tensor::<4>::ones([1, 3, side, side], &Device::flex());
            let (a, b) = (original.features(x.clone()), loaded.features(x));
            assert_eq!(a.into_data(), b.into_data(), "{backbone} {variant}");
        }
        let again = folder.path().join("again.safetensors");
        export_timm(&loaded, &again).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(again).unwrap());
    }
}

#[test]
fn other_floats_are_converted() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(Backbone::Vgg16, Variant::Keras);
    let network = network(&config, 8);
    let tensors = torch_tensors(&network);
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| {
            values
                .iter()
                .flat_map(|v| f64::from(*v).to_le_bytes())
                .collect()
        })
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let kind = safetensors::Dtype::F64;
        let view = safetensors::tensor::TensorView::new(kind, shape.clone(), bytes);
        (name, view.unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    let path = write(folder.path(), "f64", &bytes);
    let loaded = load(&path, &config).unwrap();
    assert_eq!(values(&loaded, false), values(&network, false));
}
