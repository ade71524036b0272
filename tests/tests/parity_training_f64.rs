//! Training steps are Keras' in float64, loss by loss, and all weights after ten steps.
//! `tests/parity/training.py` says why the learning rate is small.
//!
//! On its own, because the width is a setting of the device in the whole process.

#![expect(
    clippy::print_stdout,
    reason = "the measured differences are what these tests are run for"
)]

use burn::module::Param;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use quartet_engine::adam::{Adam, AdamConfig};
use quartet_shared::spec::Backbone;
use quartet_tests::parity::training::{BACKBONES, Differences, Fault, Width, compare};
use quartet_tests::parity::{self, Tensors};

/// Largest relative difference of a loss. Rounding alone gives up to 3e-11.
const LOSS: f64 = 1e-9;

/// Largest difference of a weight or running statistic, relative to the largest of its tensor. The references
/// are read as 32-bit floats, which gives 6e-8.
const END: f64 = 1e-6;

fn agrees(found: &Differences) -> bool {
    found.losses.iter().all(|&loss| loss <= LOSS)
        && found.learning_rates <= 1e-12
        && found.statistics <= END
        && found.weights <= END
}

#[test]
fn updates_and_ten_steps_are_keras() {
    for mut device in parity::cpus() {
        device
            .configure(FloatDType::F64)
            .expect("before the first tensor");
        updates_are_keras(&device);
        for backbone in BACKBONES {
            let found = compare(backbone, Width::Double, 10, Fault::None, &device);
            println!("{backbone} on {device:?}: {found}");
            assert!(agrees(&found), "{backbone}");
        }
        // What the tolerances are for.
        for (fault, steps) in [
            (Fault::EpsilonInside, 2),
            (Fault::DecayOneTooEarly, 2),
            (Fault::NoDecay, 3),
            (Fault::Momentum, 10),
        ] {
            let found = compare(Backbone::InceptionV3, Width::Double, steps, fault, &device);
            println!("{fault:?} on {device:?}: {found}");
            assert!(!agrees(&found), "{fault:?} goes unnoticed");
            let losses = found.losses.iter().any(|&loss| loss > LOSS);
            assert_eq!(losses, fault != Fault::Momentum, "{fault:?}");
        }
    }
}

/// Adam on given gradients, from far below epsilon to far above it.
fn updates_are_keras(device: &Device) {
    let tensors = Tensors::read(&parity::references().join("adam.safetensors"));
    let count = tensors.shape("start")[0];
    let on = |values: &[f64], device: &Device| {
        Tensor::<1>::from_data(TensorData::new(values.to_vec(), [count]), device)
    };
    let autodiff = device.clone().autodiff();
    let mut module = Param::from_tensor(on(&tensors.f64("start"), &autodiff));
    let mut adam = Adam::new(AdamConfig::keras(5e-4, 1e-3), &module);
    let (gradients, values) = (tensors.f64("gradients"), tensors.f64("values"));
    let updates = gradients
        .chunks_exact(count)
        .zip(values.chunks_exact(count));
    let rates = tensors.f64("learning_rates");
    assert_eq!(rates.len(), 60);
    let mut worst = 0.0_f64;
    for ((gradient, expected), rate) in updates.zip(rates) {
        assert!((adam.learning_rate() / rate - 1.0).abs() < 1e-12);
        let loss = (module.val() * on(gradient, &autodiff)).sum();
        module = adam.step(module, loss.backward());
        let found = module.val().inner().into_data_as::<f64>();
        let found = found.try_to_vec::<f64>().expect("converted");
        for (found, expected) in found.iter().zip(expected) {
            worst = worst.max((found - expected).abs());
        }
    }
    println!("Adam on {device:?}: {worst:.1e}");
    // All updates together move a value by up to 0.03.
    assert!(worst < 1e-12, "{worst}");
}
