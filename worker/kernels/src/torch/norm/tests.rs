//! A convolution's bias before a normalisation, which takes no passes of its own.

use burn::module::Module;
use burn::nn::conv::Conv2dConfig;
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::{Device, TensorData};

use super::*;
use crate::channels_last;

const CHANNELS: usize = 8;

fn wave<const D: usize>(first: f32, shape: [usize; D], device: &Device) -> Tensor<D> {
    let n: usize = shape.iter().product();
    let values = (0..n).map(|i| ((i as f32 + first) * 0.731).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[derive(Module, Debug)]
struct Layers {
    conv: Conv2d,
    norm: BatchNorm,
}

fn layers(device: &Device) -> Layers {
    let mut conv = Conv2dConfig::new([3, CHANNELS], [3, 3]).init(device);
    conv.weight = Param::from_tensor(wave(1.0, [CHANNELS, 3, 3, 3], device));
    conv.bias = Some(Param::from_tensor(wave(2.0, [CHANNELS], device) + 1.0));
    let mut norm = BatchNormConfig::new(CHANNELS)
        .with_epsilon(1e-3)
        .with_momentum(0.25)
        .init(device);
    norm.gamma = Param::from_tensor(wave(3.0, [CHANNELS], device) + 1.5);
    norm.beta = Param::from_tensor(wave(4.0, [CHANNELS], device));
    let running = |first, shift| wave(first, [CHANNELS], &device.clone().inner()) + shift;
    norm.running_mean.update(running(5.0, 0.0));
    norm.running_var.update(running(6.0, 2.0));
    norm.running_mean.value_sync();
    norm.running_var.value_sync();
    Layers { conv, norm }
}

/// How far `found` is from `expected`, relative to the norm of that.
fn distance(found: &[f32], expected: &[f32]) -> f32 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
    assert_eq!(found.len(), expected.len());
    let mut difference = found.iter().zip(expected).map(|(a, b)| a - b);
    norm(&mut difference) / norm(&mut expected.iter().copied()).max(1e-30)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_to_vec().unwrap()
}

/// Output, running mean and variance, gradients of input, weight, gamma, beta and residual; and that of the
/// bias.
fn computed(
    frozen: bool,
    with_residual: bool,
    relu: bool,
    statistics: Statistics,
    compute: impl FnOnce(&Layers, Tensor<4>, Option<Tensor<4>>, bool, Statistics) -> Tensor<4>,
) -> (Vec<Vec<f32>>, Vec<f32>) {
    let device = Device::libtorch().autodiff();
    let mut layers = layers(&device);
    if frozen {
        layers.norm = layers.norm.freeze();
    }
    let x = channels_last(wave(7.0, [4, 3, 9, 7], &device)).require_grad();
    let residual = channels_last(wave(8.0, [4, CHANNELS, 7, 5], &device)).require_grad();
    let added = with_residual.then(|| residual.clone());
    let y = compute(&layers, x.clone(), added, relu, statistics);
    let weights = wave(9.0, y.dims(), &device);
    let gradients = (y.clone() * weights).sum().backward();
    let mut found = vec![
        values(y),
        values(layers.norm.running_mean.value_sync()),
        values(layers.norm.running_var.value_sync()),
        values(x.grad(&gradients).unwrap()),
        values(layers.conv.weight.val().grad(&gradients).unwrap()),
    ];
    if !frozen {
        found.push(values(layers.norm.gamma.val().grad(&gradients).unwrap()));
        found.push(values(layers.norm.beta.val().grad(&gradients).unwrap()));
    }
    found.extend(with_residual.then(|| values(residual.grad(&gradients).unwrap())));
    let bias = layers.conv.bias.as_ref().unwrap().val();
    (found, values(bias.grad(&gradients).unwrap()))
}

#[test]
fn a_bias_before_a_normalisation_is_in_the_running_mean() {
    let kinds = [
        (Statistics::Batch(Addresses::Free), false),
        (Statistics::Batch(Addresses::Fixed), false),
        (Statistics::Batch(Addresses::Free), true),
        (Statistics::Running, false),
    ];
    for (statistics, frozen) in kinds {
        for (residual, relu) in [(false, false), (false, true), (true, false), (true, true)] {
            let case = format!("{statistics:?}, frozen {frozen}, residual {residual}, ReLU {relu}");
            let apart = |layers: &Layers, x, residual, relu, statistics| {
                let x = super::super::conv2d(&layers.conv, x);
                batch_norm(&layers.norm, x, None, residual, relu, statistics)
            };
            let together = |layers: &Layers, x, residual, relu, statistics| {
                conv2d_batch_norm(&layers.conv, &layers.norm, x, residual, relu, statistics)
            };
            let (expected, expected_bias) = computed(frozen, residual, relu, statistics, apart);
            let (found, bias) = computed(frozen, residual, relu, statistics, together);
            assert_eq!(found.len(), expected.len());
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let distance = distance(found, expected);
                assert!(distance < 1e-5, "value {i} of {case}: {distance}");
            }
            if statistics == Statistics::Running || frozen {
                let distance = distance(&bias, &expected_bias);
                assert!(distance < 1e-5, "the bias' gradient of {case}: {distance}");
            } else {
                // What rounding makes of 0.
                assert!(expected_bias.iter().all(|v| v.abs() < 1e-4), "{case}");
                assert!(bias.iter().all(|&v| v == 0.0), "{case}");
            }
        }
    }
}

#[test]
fn without_gradients_a_bias_is_taken_from_the_running_mean() {
    let device = Device::libtorch();
    let layers = layers(&device);
    let x = channels_last(wave(7.0, [4, 3, 9, 7], &device));
    let before = values(layers.norm.running_mean.value_sync());
    let apart = super::super::conv2d(&layers.conv, x.clone());
    let apart = batch_norm(&layers.norm, apart, None, None, true, Statistics::Running);
    let together = conv2d_batch_norm(
        &layers.conv,
        &layers.norm,
        x,
        None,
        true,
        Statistics::Running,
    );
    let distance = distance(&values(together), &values(apart));
    assert!(distance < 1e-5, "{distance}");
    assert_eq!(values(layers.norm.running_mean.value_sync()), before);
}
