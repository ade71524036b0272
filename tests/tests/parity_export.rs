//! Whole networks that were exported say the same elsewhere.
//!
//! `QUARTET_PYTHON` names a Python that has the libraries, as `tests/parity/run` has it. No references are
//! needed: the weights are random, with running statistics of a batch, so that activations keep their scale.

#![expect(
    clippy::print_stdout,
    reason = "the measured differences are what these tests are run for"
)]

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use burn::module::Module;
use burn::tensor::Device;
use quartet_engine::input::Input;
use quartet_engine::models::parameters::{parameters, with_values};
use quartet_engine::models::{DropoutMasks, Network, NetworkConfig, Variant};
use quartet_engine::onnx::{Member, export_onnx};
use quartet_engine::predict::predict;
use quartet_engine::weights::{Exported, export_keras, export_torch};
use quartet_shared::dataset::{ImageShape, Images};
use quartet_shared::spec::Backbone;
use quartet_tests::parity;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// Height and width of the images of the data set.
const SHAPE: ImageShape = ImageShape::gray([48, 40]);
const COUNT: usize = 24;

const NETWORKS: [(Backbone, Variant); 8] = [
    (Backbone::Vgg16, Variant::Keras),
    (Backbone::Resnet50, Variant::Keras),
    (Backbone::Resnet50, Variant::Keras2018),
    (Backbone::Resnet50V1_5, Variant::Torch),
    (Backbone::InceptionV3, Variant::Keras),
    (Backbone::InceptionV3, Variant::Torch),
    (Backbone::InceptionResnetV2, Variant::Keras),
    (Backbone::InceptionResnetV2, Variant::Torch),
];

/// Images that have little in common, so that what tells them apart is far above rounding.
fn images() -> Images {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let ImageShape { height, width, .. } = SHAPE;
    let mut pixels = Vec::new();
    for image in 0..COUNT {
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let noise = rng.next_u32() as usize % 256;
            let pixel = match image % 6 {
                0 => noise / 16,
                1 => 240 + noise / 16,
                2 => noise,
                3 => y / (3 + image / 3) % 2 * 200 + noise / 8,
                4 => x / (3 + image / 3) % 2 * 160 + noise / 4,
                _ => (x + y) * (1 + image / 3) % 256,
            };
            pixels.push((pixel * (image + 8) / (COUNT + 8)) as u8);
        }
    }
    Images {
        labels: vec![0; COUNT],
        pixels,
        ..Images::default()
    }
}

/// A network whose running statistics are those of the images.
fn network(backbone: Backbone, variant: Variant, width: f64, images: &Images) -> Network {
    let config = NetworkConfig {
        backbone,
        variant,
        width,
        image_size: 96,
        dropout: 0.0,
        // The last batch is all that counts.
        batch_norm_momentum: 0.0,
        classes: ["angry", "happy", "sad"].map(str::to_owned).to_vec(),
    };
    let device = Device::flex();
    let network = config.init(&device.clone().autodiff(), 9);
    let input = Input::of_shape(SHAPE, 96, &device);
    let batch = input
        .evaluation_batch(images, 0..COUNT)
        .unwrap()
        .images
        .autodiff();
    let _ = network.forward_train(batch, DropoutMasks::none());
    lifted(network.valid())
}

/// The network with no variance far below the others of its layer, as no channel is nearly dead in trained
/// weights, and with smaller logits: else rounding would show.
fn lifted(network: Network) -> Network {
    let parameters = parameters(&network);
    with_values(network, |name, _| {
        let mut values = parity::values(parameters[name].values.clone());
        if name == "head.logits.weight" {
            values.iter_mut().for_each(|value| *value *= 0.15);
            return Some(values);
        }
        let mut sorted = values.clone();
        sorted.sort_by(f32::total_cmp);
        let least = 0.3 * sorted[sorted.len() / 2];
        values
            .iter_mut()
            .for_each(|value| *value = value.max(least));
        name.ends_with("running_var").then_some(values)
    })
}

/// Probabilities that could tell a wrong network from the right one.
fn expected(network: &Network, images: &Images) -> Vec<f32> {
    let found = predict(network, images, SHAPE, &Device::flex()).unwrap();
    let config = network.config();
    let classes = config.classes.len();
    let largest = found.iter().copied().fold(0.0, f32::max);
    assert!(largest < 0.999, "{config:?}: {found:?}");
    let apart = found
        .iter()
        .zip(&found[classes..])
        .map(|(a, b)| (a - b).abs());
    assert!(apart.fold(0.0, f32::max) > 0.02, "{config:?}: {found:?}");
    found
}

/// Has a script compare what is exported with `images` and `probabilities` of a safetensors file.
fn check(script: &str, exported: &Path, images: &Images, expected: &[f32], folder: &Path) {
    let path = folder.join("expected.safetensors");
    let ImageShape { height, width, .. } = SHAPE;
    let bytes: Vec<u8> = expected
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let shape = vec![COUNT, expected.len() / COUNT];
    let views = HashMap::from([
        (
            "images",
            TensorView::new(Dtype::U8, vec![COUNT, height, width], &images.pixels).unwrap(),
        ),
        (
            "probabilities",
            TensorView::new(Dtype::F32, shape, &bytes).unwrap(),
        ),
    ]);
    safetensors::serialize_to_file(views, None, &path).unwrap();
    let mut command = Command::new(parity::python());
    command.arg(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("parity")
            .join(script),
    );
    command.arg(exported).arg(path);
    assert!(command.status().unwrap().success(), "{script}");
}

#[test]
fn onnx_runtime_computes_the_same() {
    let images = images();
    for (backbone, variant) in NETWORKS {
        let folder = tempfile::tempdir().unwrap();
        let network = network(backbone, variant, 0.25, &images);
        let expected = expected(&network, &images);
        let path = folder.path().join("network.onnx");
        let member = Member {
            name: "one".to_owned(),
            weight: 1.0,
            network,
        };
        export_onnx(&[member], SHAPE, &path).unwrap();
        println!("{backbone} {variant}:");
        check("check_onnx.py", &path, &images, &expected, folder.path());
    }
}

#[test]
fn pytorch_computes_the_same() {
    let images = images();
    for (backbone, variant) in NETWORKS {
        let folder = tempfile::tempdir().unwrap();
        let network = network(backbone, variant, 0.25, &images);
        let expected = expected(&network, &images);
        let path = folder.path().join("network.safetensors");
        export_torch(&network, &path).unwrap();
        println!("{backbone} {variant}:");
        check("check_torch.py", &path, &images, &expected, folder.path());
    }
}

/// At full width: Keras has no other. Where timm's gamma is folded into a kernel, a gamma has to be there.
#[test]
fn keras_computes_the_same() {
    let images = images();
    for (backbone, variant) in [
        (Backbone::Vgg16, Variant::Keras),
        (Backbone::Resnet50, Variant::Keras),
        (Backbone::InceptionV3, Variant::Keras),
        (Backbone::InceptionResnetV2, Variant::Torch),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let network = with_gamma(network(backbone, variant, 1.0, &images));
        let expected = expected(&network, &images);
        let path = folder.path().join(format!("{backbone}.weights.h5"));
        assert_eq!(export_keras(&network, &path).unwrap(), Exported::Same);
        println!("{backbone} {variant}:");
        check("check_keras.py", &path, &images, &expected, folder.path());
    }
}

/// With other gammas than 1 where the network has some of its own.
fn with_gamma(network: Network) -> Network {
    let constant = network.config().variant != Variant::Torch;
    with_values(network, |name, shape| {
        let wanted = name.ends_with(".gamma") && !(constant && name.starts_with("backbone."));
        wanted.then(|| (0..shape[0]).map(|i| 0.9 + (i % 5) as f32 * 0.05).collect())
    })
}

#[test]
fn onnx_runtime_computes_the_same_of_an_ensemble() {
    let images = images();
    let folder = tempfile::tempdir().unwrap();
    let members = [
        (Backbone::Vgg16, Variant::Keras, 3.0),
        (Backbone::InceptionV3, Variant::Torch, 1.0),
    ];
    let members = members.map(|(backbone, variant, weight)| Member {
        name: backbone.as_str().to_owned(),
        weight,
        network: network(backbone, variant, 0.125, &images),
    });
    let [a, b] = [0, 1].map(|index| expected(&members[index].network, &images));
    let mean: Vec<f32> = a.iter().zip(b).map(|(a, b)| 0.75 * a + 0.25 * b).collect();
    let path = folder.path().join("ensemble.onnx");
    export_onnx(&members, SHAPE, &path).unwrap();
    check("check_onnx.py", &path, &images, &mean, folder.path());
}
