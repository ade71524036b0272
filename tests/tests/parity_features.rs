//! Networks with published weights compute what the libraries compute that published them, and timm computes
//! from exported weights what the network did.
//!
//! `QUARTET_PARITY` names a folder of references; see `tests/parity`. Of it, this reads:
//!
//! - `features/cases.json`: a list of [`Case`]; each names a file of weights and a safetensors file with
//!   `input_<size>` and `features_<size>`, both `[batch, channels, height, width]`
//! - `malformed/malformed.json`: a list of [`Malformed`]
//!
//! `QUARTET_PYTHON` names a Python that has timm.

#![expect(
    clippy::print_stdout,
    reason = "the measured differences are what these tests are run for"
)]

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use burn::tensor::{Device, Tensor};
use quartet_engine::models::{Network, NetworkConfig, Variant};
use quartet_engine::weights::{Exported, WeightsError, WeightsFile, export_timm};
use quartet_shared::spec::Backbone;
use quartet_tests::parity::{self, Tensors};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;

/// Largest difference of a feature from the reference, as a part of the reference's largest feature.
const TOLERANCE: f32 = 1e-4;

/// The input's height and width where exported weights are tried.
const EXPORT_SIZE: usize = 200;

/// Weights, and the features that their library computes from them.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    backbone: Backbone,
    /// The weights.
    file: String,
    /// Heights and widths of the inputs.
    sizes: Vec<usize>,
    /// Inputs and features.
    reference: String,
}

/// A file that is to be refused.
#[derive(Debug, Deserialize)]
struct Malformed {
    file: String,
    backbone: Backbone,
    /// What the message contains, besides the file's name.
    contains: String,
}

#[test]
fn features_are_those_of_the_references() {
    let folder = parity::references().join("features");
    let cases: Vec<Case> = parity::json(&folder.join("cases.json"));
    let mut failures = Vec::new();
    for case in &cases {
        let reference = Tensors::read(&folder.join(&case.reference));
        for device in parity::cpus() {
            let network = load(&folder.join(&case.file), case.backbone, &device);
            let network = network.unwrap_or_else(|error| panic!("{}: {error}", case.name));
            for size in &case.sizes {
                let features = network.features(reference.on(&format!("input_{size}"), &device));
                let name = format!("features_{size}");
                assert_eq!(features.dims().to_vec(), reference.shape(&name), "{case:?}");
                let difference = difference(&parity::values(features), &reference.f32(&name));
                let line = format!("{} at {size} on {device:?}: {difference:.1e}", case.name);
                println!("{line}");
                if difference.is_nan() || difference > TOLERANCE {
                    failures.push(line);
                }
            }
        }
    }
    assert!(!cases.is_empty());
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn malformed_files_are_refused() {
    let folder = parity::references().join("malformed");
    let files: Vec<Malformed> = parity::json(&folder.join("malformed.json"));
    let mut failures = Vec::new();
    for case in &files {
        let found = match load(&folder.join(&case.file), case.backbone, &Device::flex()) {
            Ok(_) => "it was loaded".to_owned(),
            Err(error) => error.to_string(),
        };
        println!("{}: {found}", case.file);
        if !found.contains(&case.file) || !found.contains(&case.contains) {
            failures.push(format!("{}: {:?} not in {found}", case.file, case.contains));
        }
    }
    assert!(!files.is_empty());
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(!folder.join("EXECUTED").exists(), "code of a file was run");
}

#[test]
fn timm_takes_exported_weights() {
    let python =
        std::env::var_os("QUARTET_PYTHON").expect("QUARTET_PYTHON names a Python with timm");
    let features = parity::references().join("features");
    let folder = tempfile::tempdir().unwrap();
    let (weights, expected) = (
        folder.path().join("weights"),
        folder.path().join("expected"),
    );
    let files = [
        ("keras_vgg16_notop.h5", Backbone::Vgg16),
        ("keras_inception_v3_notop.h5", Backbone::InceptionV3),
        (
            "keras_inception_resnet_v2_notop.h5",
            Backbone::InceptionResnetV2,
        ),
        ("timm_resnet50_tv.safetensors", Backbone::Resnet50V1_5),
        ("timm_inception_v3_tf.safetensors", Backbone::InceptionV3),
    ];
    for (file, backbone) in files {
        let network = load(&features.join(file), backbone, &Device::flex()).unwrap();
        let exported = export_timm(&network, &weights).unwrap();
        write_expected(&network, &expected);
        let mut command = Command::new(&python);
        command.arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/parity/check_export.py"
        ));
        command.arg(&weights).arg(parity::timm_name(backbone));
        command.arg(EXPORT_SIZE.to_string()).arg(&expected);
        if exported == Exported::OtherBorders {
            command.arg("--average-pool-without-padding");
        }
        println!("{file}:");
        assert!(command.status().unwrap().success(), "{file}");
    }
}

/// An `input`, and the `features` that the network computes from it.
fn write_expected(network: &Network, path: &Path) {
    let shape = [1, 3, EXPORT_SIZE, EXPORT_SIZE];
    let pixels = (0..shape.iter().product::<usize>()).map(|i| (i * 7919 % 251) as f32 / 251.0);
    let pixels: Vec<f32> = pixels.collect();
    let input = Tensor::<1>::from_floats(pixels.as_slice(), &Device::flex()).reshape(shape);
    let features = network.features(input);
    let tensors = [
        ("input", shape.to_vec(), pixels),
        (
            "features",
            features.dims().to_vec(),
            parity::values(features),
        ),
    ]
    .map(|(name, shape, values)| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        (name, shape, bytes)
    });
    let views: HashMap<_, _> = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            (
                *name,
                TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        })
        .collect();
    safetensors::serialize_to_file(views, None, path).unwrap();
}

fn load(path: &Path, backbone: Backbone, device: &Device) -> Result<Network, WeightsError> {
    let file = WeightsFile::open(path)?;
    let config = config(backbone, file.variant(backbone)?);
    file.load(config.init(device, 1))
}

fn config(backbone: Backbone, variant: Variant) -> NetworkConfig {
    NetworkConfig {
        backbone,
        variant,
        width: 1.0,
        image_size: 200,
        dropout: 0.5,
        batch_norm_momentum: 0.99,
        classes: vec!["angry".to_owned(), "happy".to_owned()],
    }
}

/// The largest difference by the largest expected value. NaN if any value is.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    let largest = |values: &mut dyn Iterator<Item = f32>| {
        values.fold(0f32, |largest, v| match v.is_nan() || v > largest {
            true => v,
            false => largest,
        })
    };
    let pairs = found.iter().zip(expected);
    let difference = largest(&mut pairs.map(|(found, expected)| (found - expected).abs()));
    difference / largest(&mut expected.iter().map(|v| v.abs()))
}
