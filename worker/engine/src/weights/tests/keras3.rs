//! Files in Keras 3's own layout: as Keras itself writes them (`fixtures/make.py`), and as its earlier
//! versions did, which kept no names.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use quartet_shared::spec::Backbone;
use zip::ZipArchive;

use super::files::{keras_archive, keras_layers, keras3_file, write};
use super::{NETWORKS, assert_ends, config, load, network, refusal, values};
use crate::models::parameters::parameters;
use crate::models::{Network, Variant};
use crate::weights::WeightsFile;
use crate::weights::families::layers;
use crate::weights::key_mapping::Layout;

/// A file that Keras 3.15 wrote.
fn fixture(folder: &Path, name: &str) -> PathBuf {
    unpacked(include_bytes!("fixtures/keras3.zip"), folder, name)
}

/// A file that the version of Keras 2 wrote that its name begins with.
fn keras2_fixture(folder: &Path, name: &str) -> PathBuf {
    unpacked(include_bytes!("fixtures/keras2.zip"), folder, name)
}

fn unpacked(all: &[u8], folder: &Path, name: &str) -> PathBuf {
    let mut all = ZipArchive::new(Cursor::new(all)).unwrap();
    let mut bytes = Vec::new();
    let mut entry = all.by_name(name).unwrap();
    entry.read_to_end(&mut bytes).unwrap();
    write(folder, name, &bytes)
}

/// What `fixtures/make.py` gives to a weight of this name.
fn made(name: &str, count: usize) -> Vec<f32> {
    let bytes = name.bytes().enumerate();
    let seed: usize = bytes
        .map(|(place, byte)| usize::from(byte) * (place + 1))
        .sum();
    let value = |i: usize| (0.5 + ((i * 7 + seed) % 101) as f64 / 101.0) as f32;
    (0..count).map(value).collect()
}

fn assert_is_made(network: &Network, file: &str) {
    let parameters = parameters(network);
    let mut count = 0;
    for layer in layers(network.config().backbone, network.config().variant) {
        for names in layer.kind.parameters() {
            let Some(found) = parameters.get(&format!("{}.{}", layer.ours, names.ours)) else {
                continue;
            };
            let name = format!("{}/{}", layer.keras.as_ref().unwrap(), names.keras);
            let expected = made(&name, found.shape.iter().product());
            let expected = Layout::Keras.ours(expected, &found.shape);
            let found: Vec<f32> = found.values.clone().into_data().try_to_vec().unwrap();
            assert_eq!(found, expected, "{file}: {name}");
            count += 1;
        }
    }
    assert!(count >= 26, "{file}: {count}");
}

#[test]
fn what_keras_writes_comes_in() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        "vgg16-whole.weights.h5",
        "vgg16-whole.keras",
        "vgg16-whole.h5",
        "vgg16-notebook.weights.h5",
        "vgg16-notebook.h5",
        "vgg16-nested.keras",
        "resnet50-notebook.weights.h5",
        "resnet50-notebook.keras",
        "resnet50-nested.weights.h5",
        "resnet50-nested.h5",
    ];
    for file in files {
        let backbone = match file.starts_with("vgg16") {
            true => Backbone::Vgg16,
            false => Backbone::Resnet50,
        };
        let path = fixture(folder.path(), file);
        let loaded = load(&path, &config(backbone, Variant::Keras)).unwrap();
        assert_is_made(&loaded, file);
    }
}

/// Where layers have no names to go by, against the legacy layout, in which they are in the model's order.
#[test]
fn what_keras_writes_of_the_inceptions_comes_in() {
    let folder = tempfile::tempdir().unwrap();
    let (v3, resnet) = ("inception_v3", "inception_resnet_v2");
    let files = [
        (Backbone::InceptionV3, v3, "nested.h5"),
        (Backbone::InceptionV3, v3, "nested.weights.h5"),
        (Backbone::InceptionResnetV2, resnet, "notebook.keras"),
    ];
    for (backbone, name, file) in files {
        let config = config(backbone, Variant::Keras);
        let load = |file: &str| {
            let path = fixture(folder.path(), &format!("{name}-{file}"));
            values(&load(&path, &config).unwrap(), false)
        };
        assert_eq!(load(file), load("whole.h5"), "{name} {file}");
    }
}

/// The archives of Keras 2.12 to 2.15 (`fixtures/make_keras2.py`).
#[test]
fn archives_of_keras_2_come_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = vec![(
        Backbone::Resnet50,
        "2.12-resnet50-notebook.keras".to_owned(),
    )];
    for version in ["2.12", "2.14", "2.15"] {
        for kind in ["whole", "nested"] {
            files.push((Backbone::Vgg16, format!("{version}-vgg16-{kind}.keras")));
        }
    }
    for (backbone, file) in files {
        let path = keras2_fixture(folder.path(), &file);
        let loaded = load(&path, &config(backbone, Variant::Keras)).unwrap();
        assert_is_made(&loaded, &file);
    }
    // Without names, against the legacy layout.
    let inception = config(Backbone::InceptionV3, Variant::Keras);
    let [archive, legacy] = ["notebook.keras", "whole.h5"].map(|file| {
        let path = keras2_fixture(folder.path(), &format!("2.12-inception_v3-{file}"));
        values(&load(&path, &inception).unwrap(), false)
    });
    assert_eq!(archive, legacy);
}

#[test]
fn every_network_without_names_comes_in() {
    let folder = tempfile::tempdir().unwrap();
    for (backbone, variant) in NETWORKS {
        if variant != Variant::Keras {
            continue;
        }
        let config = config(backbone, variant);
        let network = network(&config, 3);
        for nested in [false, true] {
            let bytes = keras3_file(&keras_layers(&network), nested, false);
            let path = write(folder.path(), "x.weights.h5", &bytes);
            let loaded = load(&path, &config).unwrap();
            assert_eq!(
                values(&loaded, false),
                values(&network, false),
                "{backbone}"
            );
            for other in Backbone::ALL {
                if other.facts().family != backbone.facts().family {
                    let error = WeightsFile::open(&path)
                        .unwrap()
                        .variant(other)
                        .unwrap_err();
                    let expected =
                        format!("does not fit {other}: it looks like weights of {backbone}");
                    assert_ends(&error.to_string(), &expected);
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(Backbone::Vgg16, Variant::Keras);
    let mut layers = keras_layers(&network(&config, 1));
    // VGG19 has this one.
    let extra = (
        "block3_conv4/kernel:0".to_owned(),
        vec![3, 3, 13, 13],
        vec![0.0; 1521],
    );
    layers.insert(8, ("block3_conv4".to_owned(), vec![extra]));
    let path = write(
        folder.path(),
        "vgg19.weights.h5",
        &keras3_file(&layers, false, true),
    );
    assert_ends(&refusal(&path, &config), "unused: layers/conv2d_7/vars/0");
    let nameless = keras3_file(&layers, false, false);
    let message = refusal(
        &write(folder.path(), "vgg19.weights.h5", &nameless),
        &config,
    );
    let unfit = "layers/conv2d_7/vars/0 has shape [3, 3, 13, 13] instead of [3, 3, 13, 26]";
    assert!(message.contains(unfit), "{message}");

    layers.truncate(6);
    let few = write(
        folder.path(),
        "few.weights.h5",
        &keras3_file(&layers, true, false),
    );
    let message = refusal(&few, &config);
    let missing = "missing: layers/functional/layers/conv2d_5/kernel, ";
    assert!(message.contains(missing), "{message}");
}

#[test]
fn archives_of_something_else_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(Backbone::Vgg16, Variant::Keras);
    let weights = keras3_file(&keras_layers(&network(&config, 1)), false, true);
    let whole = keras_archive(&weights, zip::CompressionMethod::Stored);
    let path = write(folder.path(), "whole.keras", &whole);
    load(&path, &config).unwrap();

    let compressed = keras_archive(&weights, zip::CompressionMethod::Deflated);
    let cases = [
        (
            compressed,
            "its model.weights.h5 is compressed or encrypted",
        ),
        (whole[..whole.len() / 2].to_vec(), "as a zip archive: "),
        (
            keras_archive(b"no HDF5", zip::CompressionMethod::Stored),
            "its model.weights.h5: ",
        ),
    ];
    for (bytes, expected) in cases {
        let message = refusal(&write(folder.path(), "x.keras", &bytes), &config);
        assert!(message.contains(expected), "{message}");
    }
}
