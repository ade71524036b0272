//! Layers that several backbones share.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, PaddingConfig2d};
use quartet_shared::spec::Variant;

use super::init::Init;
use super::interpreter::Interpreter;

/// Epsilon of batch normalisation in Keras where a model names none.
pub(super) const KERAS_EPSILON: f64 = 1e-3;

/// The modules, of which the first ones are frozen that `count` has left, which it then has no more.
pub(super) fn freeze_first<M: Module>(modules: Vec<M>, count: &mut usize) -> Vec<M> {
    let frozen = (*count).min(modules.len());
    *count -= frozen;
    let numbered = modules.into_iter().enumerate();
    numbered
        .map(|(i, module)| if i < frozen { module.freeze() } else { module })
        .collect()
}

/// The module, frozen if `count` has one left, which it then has no more.
pub(super) fn freeze_next<M: Module>(module: M, count: &mut usize) -> M {
    match count.checked_sub(1) {
        Some(rest) => {
            *count = rest;
            module.freeze()
        }
        None => module,
    }
}

/// Keras' `conv2d_bn` of the Inception families: convolution without bias, batch normalisation (in Keras
/// without gamma), ReLU.
#[derive(Module, Debug)]
pub(super) struct ConvBnRelu {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvBnRelu {
    fn new(init: &mut Init<'_>, config: &Conv2dConfig) -> Self {
        let conv = init.conv(&config.clone().with_bias(false));
        let channels = config.channels[1];
        let norm = match init.variant() {
            Variant::Keras | Variant::Keras2018 => {
                init.batch_norm_unscaled(channels, KERAS_EPSILON)
            }
            Variant::Torch => init.batch_norm(channels, KERAS_EPSILON),
        };
        Self { conv, norm }
    }

    /// Output channels.
    fn channels(&self) -> usize {
        self.norm.beta.dims()[0]
    }

    fn forward<I: Interpreter>(&self, x: I::Map, ops: &I) -> I::Map {
        ops.conv_bn_relu(&self.conv, &self.norm, x)
    }
}

/// One unit of an Inception branch: what Keras' `conv2d_bn` takes, before `width` scales the channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    channels: usize,
    kernel: [usize; 2],
    stride: usize,
    same: bool,
}

impl Unit {
    /// `[rows, columns]` kernel with stride 1 and "same" padding.
    pub(super) const fn same(channels: usize, kernel: [usize; 2]) -> Self {
        Self {
            channels,
            kernel,
            stride: 1,
            same: true,
        }
    }

    /// Square kernel without padding.
    pub(super) const fn valid(channels: usize, kernel: usize, stride: usize) -> Self {
        Self {
            channels,
            kernel: [kernel, kernel],
            stride,
            same: false,
        }
    }
}

/// Units one after the other: a branch of an Inception block, or a part of the stem.
#[derive(Module, Debug)]
pub(super) struct Chain {
    units: Vec<ConvBnRelu>,
}

impl Chain {
    /// # Panics
    /// If there is no unit.
    pub(super) fn new(init: &mut Init<'_>, mut channels: usize, units: &[Unit]) -> Self {
        assert!(!units.is_empty(), "a chain has at least one unit");
        let units = units
            .iter()
            .map(|unit| {
                let input = std::mem::replace(&mut channels, init.channels(unit.channels));
                let config = Conv2dConfig::new([input, channels], unit.kernel)
                    .with_stride([unit.stride; 2])
                    .with_padding(match unit.same {
                        true => PaddingConfig2d::Same,
                        false => PaddingConfig2d::Valid,
                    });
                ConvBnRelu::new(init, &config)
            })
            .collect();
        Self { units }
    }

    /// The two halves of the stem that all Inception networks have.
    pub(super) fn stem(init: &mut Init<'_>) -> [Self; 2] {
        let units = [
            Unit::valid(32, 3, 2),
            Unit::valid(32, 3, 1),
            Unit::same(64, [3, 3]),
        ];
        let first = Self::new(init, 3, &units);
        let units = [Unit::valid(80, 1, 1), Unit::valid(192, 3, 1)];
        let second = Self::new(init, first.channels(), &units);
        [first, second]
    }

    /// Output channels.
    pub(super) fn channels(&self) -> usize {
        self.units.last().map_or(0, ConvBnRelu::channels)
    }

    pub(super) fn forward<I: Interpreter>(&self, x: I::Map, ops: &I) -> I::Map {
        self.units.iter().fold(x, |x, unit| unit.forward(x, ops))
    }
}

/// The last branch of a [`Mixed`] block, which pools its input.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pooled {
    /// There is none.
    Nothing,
    /// 3x3 mean with stride 1, then a 1x1 unit of so many channels.
    Average(usize),
    /// The same, where the padding counts as zeros in the mean.
    AverageWithPadding(usize),
    /// 3x3 maximum with stride 2, for a block that halves the map.
    Max,
}

/// Branches over the same input, joined along the channels in order, the pooled one last.
#[derive(Module, Debug)]
pub(super) struct Mixed {
    branches: Vec<Chain>,
    average: Option<Chain>,
    count_padding: bool,
    max: bool,
    channels: usize,
}

impl Mixed {
    pub(super) fn new(
        init: &mut Init<'_>,
        input: usize,
        branches: &[&[Unit]],
        pooled: Pooled,
    ) -> Self {
        let branches: Vec<Chain> = branches
            .iter()
            .map(|units| Chain::new(init, input, units))
            .collect();
        let average = match pooled {
            Pooled::Average(channels) | Pooled::AverageWithPadding(channels) => {
                Some(Chain::new(init, input, &[Unit::same(channels, [1, 1])]))
            }
            Pooled::Nothing | Pooled::Max => None,
        };
        let max = matches!(pooled, Pooled::Max);
        let joined = branches.iter().chain(&average).map(Chain::channels);
        let channels = joined.sum::<usize>() + if max { input } else { 0 };
        Self {
            branches,
            average,
            count_padding: matches!(pooled, Pooled::AverageWithPadding(_)),
            max,
            channels,
        }
    }

    /// Output channels.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    pub(super) fn forward<I: Interpreter>(&self, x: I::Map, ops: &I) -> I::Map {
        let branches = self.branches.iter();
        let mut joined: Vec<_> = branches.map(|b| b.forward(x.clone(), ops)).collect();
        if let Some(unit) = &self.average {
            let mean = ops.avg_pool_3x3_same(x.clone(), self.count_padding);
            joined.push(unit.forward(mean, ops));
        }
        if self.max {
            joined.push(ops.max_pool_3x3(x, PaddingConfig2d::Valid));
        }
        ops.concat(joined)
    }
}
