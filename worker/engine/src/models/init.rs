//! Initial weights, drawn on the host in the order in which a network is built.

use burn::module::{Param, ParamId, RunningState};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, Linear};
use burn::tensor::{Device, Tensor, TensorData};
use quartet_shared::spec::Variant;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::config::NetworkConfig;

/// Makes layers of a given width with weights that depend on the seed and the order of the calls only.
///
/// Parameters get the ids 1, 2, 3, ...: a network that is built again has the same ids, by which
/// optimizers keep their state.
pub(super) struct Init<'a> {
    device: &'a Device,
    rng: ChaCha8Rng,
    width: f64,
    variant: Variant,
    /// Burn's momentum, the part of the batch in the running statistics.
    momentum: f64,
    next_id: u64,
    /// Kernels are 0, and there only when somebody looks.
    blank: bool,
}

impl<'a> Init<'a> {
    pub(super) fn new(device: &'a Device, seed: u64, config: &NetworkConfig) -> Self {
        Self {
            device,
            rng: ChaCha8Rng::seed_from_u64(seed),
            width: config.width,
            variant: config.variant,
            momentum: 1.0 - config.batch_norm_momentum,
            next_id: 1,
            blank: false,
        }
    }

    /// For a network whose kernels are to be replaced: they take neither time nor memory before.
    pub(super) fn blank(device: &'a Device, config: &NetworkConfig) -> Self {
        Self {
            blank: true,
            ..Self::new(device, 0, config)
        }
    }

    /// Whose implementation is built.
    pub(super) fn variant(&self) -> Variant {
        self.variant
    }

    /// The number of channels where the published network has `channels`.
    pub(super) fn channels(&self, channels: usize) -> usize {
        self.scaled(channels, 4)
    }

    /// The number of hidden units where the published head has `units`.
    pub(super) fn hidden(&self, units: usize) -> usize {
        self.scaled(units, 16)
    }

    fn scaled(&self, count: usize, least: usize) -> usize {
        ((count as f64 * self.width).round() as usize).max(least)
    }

    /// Convolution: kernel `glorot_uniform`, bias 0. Channel counts are taken as they are.
    pub(super) fn conv(&mut self, config: &Conv2dConfig) -> Conv2d {
        let [input, output] = config.channels;
        let [height, width] = config.kernel_size;
        let area = height * width;
        let kernel =
            self.glorot_uniform([output, input, height, width], input * area, output * area);
        Conv2d {
            weight: kernel,
            bias: config.bias.then(|| self.constant(output, 0.0, true)),
            stride: config.stride,
            kernel_size: config.kernel_size,
            dilation: config.dilation,
            groups: config.groups,
            padding: config.padding.clone(),
        }
    }

    /// Dense layer: kernel `glorot_uniform`, bias 0.
    pub(super) fn linear(&mut self, input: usize, output: usize) -> Linear {
        Linear {
            weight: self.glorot_uniform([input, output], input, output),
            bias: Some(self.constant(output, 0.0, true)),
        }
    }

    /// Batch normalisation: gamma 1, beta 0, mean 0, variance 1.
    pub(super) fn batch_norm(&mut self, channels: usize, epsilon: f64) -> BatchNorm {
        self.norm(channels, epsilon, true)
    }

    /// Batch normalisation as Keras' `scale=False` has it: gamma is the constant 1.
    ///
    /// Burn's module always holds a gamma; here it needs no gradient and is no parameter of the network.
    pub(super) fn batch_norm_unscaled(&mut self, channels: usize, epsilon: f64) -> BatchNorm {
        self.norm(channels, epsilon, false)
    }

    fn norm(&mut self, channels: usize, epsilon: f64, scale: bool) -> BatchNorm {
        BatchNorm {
            gamma: self.constant(channels, 1.0, scale),
            beta: self.constant(channels, 0.0, true),
            training: Param::from_bool(true),
            running_mean: self.statistic(channels, 0.0),
            running_var: self.statistic(channels, 1.0),
            momentum: self.momentum,
            epsilon,
        }
    }

    /// Uniform in plus or minus `sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010).
    fn glorot_uniform<const D: usize>(
        &mut self,
        shape: [usize; D],
        fan_in: usize,
        fan_out: usize,
    ) -> Param<Tensor<D>> {
        if self.blank {
            let zeros = move |device: &Device, trainable: bool| {
                Tensor::zeros(shape, device).set_require_grad(trainable)
            };
            let device = self.device.clone();
            return Param::uninitialized(self.id(), zeros, device, true, shape.into());
        }
        let limit = (6.0 / (fan_in + fan_out) as f64).sqrt() as f32;
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| limit * signed_unit(self.rng.next_u32()))
            .collect();
        let value = Tensor::from_data(TensorData::new(values, shape), self.device);
        Param::initialized(self.id(), value).set_require_grad(true)
    }

    fn constant(&mut self, len: usize, value: f32, trainable: bool) -> Param<Tensor<1>> {
        let value = Tensor::full([len], value, self.device);
        Param::initialized(self.id(), value).set_require_grad(trainable)
    }

    fn statistic(&mut self, len: usize, value: f32) -> RunningState<Tensor<1>> {
        RunningState::with_id(self.id(), Tensor::full([len], value, self.device))
    }

    fn id(&mut self) -> ParamId {
        let id = ParamId::from(self.next_id);
        self.next_id += 1;
        id
    }
}

/// The upper 24 bits as a number in `[-1, 1)`; every value is exact in f32.
fn signed_unit(bits: u32) -> f32 {
    (bits >> 8) as f32 / (1 << 23) as f32 - 1.0
}
