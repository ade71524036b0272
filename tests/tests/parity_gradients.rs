//! The loss of a training step, and its gradient by each parameter of the four networks, are PyTorch's in
//! float64.
//!
//! `QUARTET_PYTHON` names a Python that has timm. On its own, because the width is a setting of the device in
//! the whole process.

#![expect(
    clippy::print_stdout,
    reason = "the measured differences are what these tests are run for"
)]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, FloatDType, Gradients, Int, Tensor, TensorData};
use quartet_engine::models::parameters::{Path as ParameterPath, parameters, with_values};
use quartet_engine::models::{DropoutMasks, Network, NetworkConfig, Variant};
use quartet_engine::weights::{Exported, export_timm};
use quartet_shared::spec::Backbone;
use quartet_tests::parity::{self, Tensors};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// Largest difference of a gradient, relative to the largest of its tensor. They are compared as 32-bit
/// floats, which gives 6e-8.
const TOLERANCE: f64 = 1e-6;

/// A tensor whose gradients are smaller than this part of the largest of all has gradients of 0 but for
/// rounding, such as a bias before batch normalisation.
const NEGLIGIBLE: f64 = 1e-10;

const BATCH: usize = 4;
const SIZE: usize = 75;

#[test]
fn all_gradients_are_pytorchs() {
    let backbones = [
        Backbone::Vgg16,
        Backbone::Resnet50V1_5,
        Backbone::InceptionV3,
        Backbone::InceptionResnetV2,
    ];
    let mut devices = parity::cpus();
    for device in &mut devices {
        device
            .configure(FloatDType::F64)
            .expect("before the first tensor");
    }
    let mut failures = Vec::new();
    for backbone in backbones {
        let reference = reference(backbone, parity::timm_name(backbone));
        for device in &devices {
            let (loss, gradients) = gradients(backbone, device);
            let difference = (loss / reference.f64("loss")[0] - 1.0).abs();
            let mut worst = (difference, "loss".to_owned());
            assert_eq!(
                gradients.names().len() + 1,
                reference.names().len(),
                "{backbone}"
            );
            let largest = |values: &[f64]| values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            let names = gradients.names();
            let of_all = names.iter().map(|name| largest(&reference.f64(name)));
            let negligible = NEGLIGIBLE * of_all.fold(0.0, f64::max);
            for name in names {
                let (found, expected) = (gradients.f64(&name), reference.f64(&name));
                let difference = match largest(&expected) < negligible {
                    true => largest(&found) / negligible * TOLERANCE,
                    false => parity::relative(&found, &expected),
                };
                if difference.is_nan() || difference > worst.0 {
                    worst = (difference, name);
                }
            }
            println!("{backbone} on {device:?}: {:.1e} ({})", worst.0, worst.1);
            if worst.0.is_nan() || worst.0 > TOLERANCE {
                failures.push(format!("{backbone} on {device:?}: {worst:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

fn network(backbone: Backbone, device: &Device) -> Network {
    let config = NetworkConfig {
        backbone,
        variant: Variant::Torch,
        width: 1.0,
        image_size: SIZE,
        dropout: 0.0,
        batch_norm_momentum: 0.99,
        classes: (0..7).map(|i| i.to_string()).collect(),
    };
    config.init(device, 11)
}

fn pixels() -> Vec<f32> {
    let image = |n| (0..3 * SIZE * SIZE).map(move |i| (i * (7 + n) * 7919 % 251) as f32 / 251.0);
    (0..BATCH).flat_map(image).collect()
}

fn labels() -> Vec<i64> {
    (0..BATCH as i64).map(|i| i * 3 % 7).collect()
}

/// PyTorch's gradients.
fn reference(backbone: Backbone, timm: &str) -> Tensors {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let network = network(backbone, &Device::flex());
    assert_eq!(
        export_timm(&network, &path("backbone")).unwrap(),
        Exported::Same
    );
    let head = parameters(&network)
        .into_iter()
        .filter(|(name, _)| name.starts_with("head."));
    let head = head.map(|(name, parameter)| {
        let values = parameter.values.into_data_as::<f32>().into_bytes().to_vec();
        (name, (Dtype::F32, parameter.shape, values))
    });
    write(&path("head"), head.collect());
    let images = pixels().iter().flat_map(|v| v.to_le_bytes()).collect();
    let classes = labels().iter().flat_map(|v| v.to_le_bytes()).collect();
    let batch = [
        ("images", (Dtype::F32, vec![BATCH, 3, SIZE, SIZE], images)),
        ("labels", (Dtype::I64, vec![BATCH], classes)),
    ];
    let batch = batch.map(|(name, tensor)| (name.to_owned(), tensor));
    write(&path("batch"), batch.into_iter().collect());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/gradients_live.py");
    let mut python = Command::new(parity::python());
    python.arg(script).arg(timm);
    python.args(["backbone", "head", "batch", "out"].map(path));
    assert!(python.status().unwrap().success(), "{timm}");
    Tensors::read(&path("out"))
}

fn write(path: &Path, tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>) {
    let views: HashMap<_, _> = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        })
        .collect();
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// Our loss and gradients, these under timm's names: they are written as the weights of a network are.
fn gradients(backbone: Backbone, device: &Device) -> (f64, Tensors) {
    let device = device.clone().autodiff();
    let network = network(backbone, &device);
    let images = TensorData::new(pixels(), [BATCH, 3, SIZE, SIZE]);
    let images = Tensor::<4>::from_data(images, &device);
    let labels = Tensor::<2, Int>::from_data(TensorData::new(labels(), [BATCH, 1]), &device);
    let logits = network.forward_train(images, DropoutMasks::none());
    let loss = log_softmax(logits, 1).gather(1, labels).mean().neg();
    let value = loss
        .clone()
        .inner()
        .into_data_as::<f64>()
        .try_to_vec::<f64>()
        .unwrap()[0];
    let mut collect = Collect {
        path: ParameterPath::default(),
        gradients: loss.backward(),
        found: BTreeMap::new(),
    };
    network.visit(&mut collect);
    let mut found = collect.found;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gradients");
    let mut all: BTreeMap<_, _> = found
        .iter()
        .filter(|(name, _)| name.starts_with("head."))
        .map(|(name, values)| {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (name.clone(), (Dtype::F32, vec![values.len()], bytes))
        })
        .collect();
    let network = with_values(network, |name, _| found.remove(name));
    assert!(found.is_empty(), "{:?}", found.keys());
    export_timm(&network, &path).unwrap();
    let exported = Tensors::read(&path);
    let names = exported.names().into_iter().filter(|name| {
        let statistics = ["running_mean", "running_var", "num_batches_tracked"];
        !statistics.iter().any(|statistic| name.ends_with(statistic))
    });
    for name in names {
        let bytes = exported
            .f32(&name)
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        all.insert(name.clone(), (Dtype::F32, exported.shape(&name), bytes));
    }
    write(&path, all);
    (value, Tensors::read(&path))
}

struct Collect {
    path: ParameterPath,
    gradients: Gradients,
    found: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(&self.gradients) {
            self.found
                .insert(self.path.name(), parity::values(gradient));
        }
    }
}
