//! Runs that leave the first layers of their backbones as they are.

use std::collections::BTreeMap;

use burn::module::Module as _;
use burn::tensor::{TensorData, Tolerance};
use quartet_shared::spec::Freeze;

use super::*;
use crate::input::{Batch, Input};
use crate::models::parameters::parameters;
use crate::train::state::TrainState;

/// A backbone, what of it is frozen, and how the names of those parameters begin.
type Case = (Backbone, &'static str, &'static [&'static str]);

const CASES: [Case; 9] = [
    (
        Backbone::Vgg16,
        "block3",
        &["blocks.0.", "blocks.1.", "blocks.2."],
    ),
    (Backbone::Vgg16, "backbone", &[""]),
    (Backbone::Resnet50, "conv1", &["conv.", "norm."]),
    (
        Backbone::Resnet50,
        "conv3_block1",
        &["conv.", "norm.", "stages.0.", "stages.1.blocks.0."],
    ),
    (
        Backbone::InceptionV3,
        "mixed0",
        &["stem1.", "stem2.", "mixed.0."],
    ),
    (
        Backbone::InceptionV3,
        "mixed9",
        &["stem1.", "stem2.", "mixed.", "wide.0."],
    ),
    (
        Backbone::InceptionResnetV2,
        "block17_3",
        &[
            "stem1.",
            "stem2.",
            "mixed_5b.",
            "blocks35.",
            "mixed_6a.",
            "blocks17.0.",
            "blocks17.1.",
            "blocks17.2.",
        ],
    ),
    (
        Backbone::InceptionResnetV2,
        "block8",
        &[
            "stem1.",
            "stem2.",
            "mixed_",
            "blocks35.",
            "blocks17.",
            "blocks8.",
            "last8.",
        ],
    ),
    (Backbone::InceptionResnetV2, "backbone", &[""]),
];

fn frozen_task(backbone: Backbone, freeze: &str) -> TrainTask {
    let mut task = task(16, 0.05, 2);
    task.run.backbone = backbone;
    task.run.image_size = backbone.minimum_image_size();
    task.run.freeze = freeze.parse().unwrap();
    task
}

fn batch(task: &TrainTask, device: &Device) -> Batch {
    let input = Input::new(&task.dataset, task.run.image_size, device);
    let batch = input.evaluation_batch(task.dataset.split(Split::Train), 0..8);
    batch.expect("the images are in memory")
}

fn step(state: TrainState, task: &TrainTask, device: &Device, number: u64) -> TrainState {
    state.step(batch(task, device), Epoch(1), number).0
}

fn values(state: &TrainState) -> BTreeMap<String, TensorData> {
    let parameters = parameters(&state.network).into_iter();
    parameters
        .map(|(name, parameter)| (name, parameter.values.into_data()))
        .collect()
}

#[test]
fn what_is_frozen_keeps_its_bits_and_all_else_is_trained() {
    for device in cpus() {
        for (backbone, freeze, prefixes) in CASES {
            let task = frozen_task(backbone, freeze);
            let is_frozen = |name: &str| {
                let name = name.strip_prefix("backbone.");
                name.is_some_and(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
            };
            let (mut state, _) = prepare(&task, &device).unwrap();
            let before = values(&state);
            for number in 0..2 {
                state = step(state, &task, &device, number);
            }
            for (name, after) in values(&state) {
                // Keras' Inceptions have no gamma; ours is a constant.
                let is_constant = name.ends_with("gamma") && name.starts_with("backbone.");
                if is_constant && !matches!(backbone, Backbone::Resnet50) {
                    continue;
                }
                let is_same = before[&name] == after;
                assert_eq!(is_same, is_frozen(&name), "{backbone} {freeze}: {name}");
            }
            assert!(before.keys().any(|name| is_frozen(name)), "{freeze}");
            // Frozen parameters have no gradients, and so nothing that Adam would change.
            let moments = state.adam.moments.keys();
            assert!(
                moments.clone().next().is_some()
                    && !moments.into_iter().any(|name| is_frozen(name))
            );
        }
    }
}

/// Before the boundary a training step computes what an inference does, by statistics that the run begins
/// with.
#[test]
fn frozen_layers_infer() {
    for device in cpus() {
        for backbone in [
            Backbone::Vgg16,
            Backbone::Resnet50,
            Backbone::InceptionV3,
            Backbone::InceptionResnetV2,
        ] {
            // Running statistics that are not those of a new network.
            let task = frozen_task(backbone, "none");
            let (mut state, _) = prepare(&task, &device).unwrap();
            for number in 0..2 {
                state = step(state, &task, &device, number);
            }
            let images = batch(&task, &device).images;
            let trained = |network: &crate::models::Network| {
                let features = network.features_in_training(images.clone().autodiff());
                features.inner().into_data()
            };
            let expected = state
                .network
                .clone()
                .valid()
                .features(images.clone())
                .into_data();
            let frozen = state.network.clone().freeze_through(&Freeze::Backbone);
            let tolerance = Tolerance::<f32>::rel_abs(1e-4, 1e-5);
            trained(&frozen).assert_approx_eq(&expected, tolerance);
            if backbone != Backbone::Vgg16 {
                let moving = trained(&state.network);
                let largest = moving.iter::<f32>().zip(expected.iter::<f32>());
                let largest = largest.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(largest > 1e-2, "{backbone}: {largest}");
            }
        }
    }
}

/// Whatever is frozen of a network without batch normalisation, the layers above get the same first update.
#[test]
fn gradients_above_the_boundary_are_those_of_the_whole_network() {
    for device in cpus() {
        let first_update = |freeze: &str| {
            let task = frozen_task(Backbone::Vgg16, freeze);
            let (state, _) = prepare(&task, &device).unwrap();
            values(&step(state, &task, &device, 0))
        };
        let whole = first_update("none");
        for freeze in ["block1", "block4", "backbone"] {
            let count = Freeze::blocks(&freeze.parse().unwrap(), Backbone::Vgg16).unwrap();
            for (name, value) in first_update(freeze) {
                let frozen = (0..count).any(|i| name.starts_with(&format!("backbone.blocks.{i}.")));
                assert_eq!(value == whole[&name], !frozen, "{freeze}: {name}");
            }
        }
    }
}
