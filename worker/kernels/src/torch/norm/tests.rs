//! A convolution's bias before a normalisation, which takes no passes of its own.

use burn::module::Module;
use burn::nn::conv::Conv2dConfig;
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::{DType, Device, TensorData};

use super::*;
use crate::{GpuArithmetic, channels_last, channels_last_bf16, set_gpu_arithmetic};

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

#[derive(Clone, Copy, Debug)]
struct Case {
    statistics: Statistics,
    frozen: Frozen,
    /// Whether there is one, and whether it wants a gradient.
    residual: Option<bool>,
    relu: bool,
    bf16: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frozen {
    Nothing,
    Conv,
    Norm,
    Both,
}

impl Case {
    /// In bfloat16 without ReLU, which passes other gradients on where rounding has another sign.
    fn all(bf16: bool) -> impl Iterator<Item = Self> {
        let batch = Statistics::Batch(Addresses::Free);
        let kinds = [
            (batch, Frozen::Nothing),
            (Statistics::Batch(Addresses::Fixed), Frozen::Nothing),
            (batch, Frozen::Conv),
            (batch, Frozen::Norm),
            (batch, Frozen::Both),
            (Statistics::Running, Frozen::Nothing),
        ];
        let follows = [
            (None, false),
            (None, true),
            (Some(true), false),
            (Some(true), true),
            (Some(false), true),
        ];
        kinds.into_iter().flat_map(move |(statistics, frozen)| {
            let follows = follows
                .into_iter()
                .filter(move |(_, relu)| !(bf16 && *relu));
            follows.map(move |(residual, relu)| Self {
                statistics,
                frozen,
                residual,
                relu,
                bf16,
            })
        })
    }

    /// Output, running mean and variance, and gradients of input, weight, gamma, beta and residual; and that
    /// of the bias. Nothing stands for a gradient that there is not.
    fn compute(
        self,
        device: &Device,
        compute: impl FnOnce(&Layers, Tensor<4>, Option<Tensor<4>>, bool, Statistics) -> Tensor<4>,
    ) -> (Vec<Option<Vec<f32>>>, Option<Vec<f32>>) {
        let device = device.clone().autodiff();
        let Layers { mut conv, mut norm } = layers(&device);
        if matches!(self.frozen, Frozen::Conv | Frozen::Both) {
            conv = conv.freeze();
        }
        if matches!(self.frozen, Frozen::Norm | Frozen::Both) {
            norm = norm.freeze();
        }
        let layers = Layers { conv, norm };
        let x = wave(7.0, [4, 3, 9, 7], &device).require_grad();
        let images = |x| match self.bf16 {
            true => channels_last_bf16(x),
            false => channels_last(x),
        };
        let residual = wave(8.0, [4, CHANNELS, 7, 5], &device);
        let residual = self
            .residual
            .map(|tracked| residual.set_require_grad(tracked));
        let added = residual.clone().map(images);
        let y = compute(
            &layers,
            images(x.clone()),
            added,
            self.relu,
            self.statistics,
        );
        let y = y.cast(DType::F32);
        let weights = wave(9.0, y.dims(), &device);
        let gradients = (y.clone() * weights).sum().backward();
        let of = |tensor: Tensor<1>| tensor.grad(&gradients).map(values);
        let found = vec![
            Some(values(y)),
            Some(values(layers.norm.running_mean.value_sync())),
            Some(values(layers.norm.running_var.value_sync())),
            x.grad(&gradients).map(values),
            layers.conv.weight.val().grad(&gradients).map(values),
            of(layers.norm.gamma.val()),
            of(layers.norm.beta.val()),
            residual
                .and_then(|residual| residual.grad(&gradients))
                .map(values),
        ];
        (found, of(layers.conv.bias.as_ref().unwrap().val()))
    }

    /// A convolution with its bias and a normalisation are the two together, to this rounding.
    fn check(self, device: &Device, rounding: f32) {
        let apart = |layers: &Layers, x, residual, relu, statistics| {
            let x = super::super::conv2d(&layers.conv, x);
            batch_norm(&layers.norm, x, None, residual, relu, statistics)
        };
        let together = |layers: &Layers, x, residual, relu, statistics| {
            conv2d_batch_norm(&layers.conv, &layers.norm, x, residual, relu, statistics)
        };
        let (expected, expected_bias) = self.compute(device, apart);
        let (found, bias) = self.compute(device, together);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found.is_some(), expected.is_some(), "value {i} of {self:?}");
            let (Some(found), Some(expected)) = (found, expected) else {
                continue;
            };
            let distance = distance(found, expected);
            assert!(distance < rounding, "value {i} of {self:?}: {distance}");
        }
        assert_eq!(bias.is_some(), expected_bias.is_some(), "{self:?}");
        let (Some(bias), Some(expected)) = (bias, expected_bias) else {
            return;
        };
        if self.statistics == Statistics::Running || self.frozen == Frozen::Norm {
            let distance = distance(&bias, &expected);
            assert!(
                distance < rounding,
                "the bias' gradient of {self:?}: {distance}"
            );
        } else {
            // What rounding makes of 0.
            assert!(
                expected.iter().all(|v| v.abs() < 100.0 * rounding),
                "{self:?}"
            );
            assert!(bias.iter().all(|&v| v == 0.0), "{self:?}");
        }
    }
}

#[test]
fn a_bias_before_a_normalisation_is_in_the_running_mean() {
    for case in Case::all(false) {
        case.check(&Device::libtorch(), 1e-5);
    }
    for case in Case::all(true) {
        case.check(&Device::libtorch(), 3e-2);
    }
}

mod gpu {
    use super::*;

    #[test]
    fn a_bias_before_a_normalisation_is_in_the_running_mean() {
        if !crate::torch::ffi::tests::has_gpu() {
            return;
        }
        let device = Device::libtorch_cuda(0);
        // Each convolution the same in both.
        set_gpu_arithmetic(
            &device,
            GpuArithmetic {
                tf32: false,
                deterministic: true,
            },
        );
        for case in Case::all(false) {
            case.check(&device, 1e-4);
        }
        for case in Case::all(true) {
            case.check(&device, 3e-2);
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
