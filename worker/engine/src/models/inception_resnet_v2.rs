//! InceptionResNetV2 (Szegedy et al. 2016), Keras' `InceptionResNetV2(include_top=False)`; timm's
//! `inception_resnet_v2.tf_in1k` is the same network with gamma stored.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};

use super::blocks::{Chain, Mixed, Pooled, Unit, freeze_first, freeze_next};
use super::init::Init;
use super::interpreter::Interpreter;

/// `block35`.
const BLOCK35: BlockConfig = BlockConfig {
    count: 10,
    scale: 0.17,
    branches: &[
        &[Unit::same(32, [1, 1])],
        &[Unit::same(32, [1, 1]), Unit::same(32, [3, 3])],
        &[
            Unit::same(32, [1, 1]),
            Unit::same(48, [3, 3]),
            Unit::same(64, [3, 3]),
        ],
    ],
};

/// `block17`.
const BLOCK17: BlockConfig = BlockConfig {
    count: 20,
    scale: 0.1,
    branches: &[
        &[Unit::same(192, [1, 1])],
        &[
            Unit::same(128, [1, 1]),
            Unit::same(160, [1, 7]),
            Unit::same(192, [7, 1]),
        ],
    ],
};

/// `block8`, but for the last.
const BLOCK8: BlockConfig = BlockConfig {
    count: 9,
    scale: 0.2,
    branches: &[
        &[Unit::same(192, [1, 1])],
        &[
            Unit::same(192, [1, 1]),
            Unit::same(224, [1, 3]),
            Unit::same(256, [3, 1]),
        ],
    ],
};

/// A sequence of like residual blocks.
#[derive(Clone, Copy, Debug)]
struct BlockConfig {
    count: usize,
    scale: f64,
    branches: &'static [&'static [Unit]],
}

/// Stem, three sequences of residual blocks with two reductions between, and a last 1x1 unit.
#[derive(Module, Debug)]
pub(super) struct InceptionResnetV2 {
    /// `conv2d_1a` to `conv2d_2b`, before the first pool.
    stem1: Chain,
    /// `conv2d_3b` and `conv2d_4a`, before the second.
    stem2: Chain,
    mixed_5b: Mixed,
    /// `block35_1` to `block35_10`; timm's `repeat`.
    blocks35: Vec<Residual>,
    mixed_6a: Mixed,
    /// `block17_1` to `block17_20`; timm's `repeat_1`.
    blocks17: Vec<Residual>,
    mixed_7a: Mixed,
    /// `block8_1` to `block8_9`; timm's `repeat_2`.
    blocks8: Vec<Residual>,
    /// `block8_10`, unscaled and without activation; timm's `block8`.
    last8: Residual,
    /// `conv_7b`.
    conv_7b: Chain,
}

/// `x + scale * up(branches(x))`.
#[derive(Module, Debug)]
struct Residual {
    branches: Mixed,
    /// 1x1 with bias, without batch normalisation or activation.
    up: Conv2d,
    scale: f64,
}

impl InceptionResnetV2 {
    /// The network and its output channels.
    pub(super) fn new(init: &mut Init<'_>) -> (Self, usize) {
        let [stem1, stem2] = Chain::stem(init);
        let mixed_5b = mixed_5b(init, stem2.channels());
        let blocks35 = BLOCK35.blocks(init, mixed_5b.channels());
        let mixed_6a = mixed_6a(init, mixed_5b.channels());
        let blocks17 = BLOCK17.blocks(init, mixed_6a.channels());
        let mixed_7a = mixed_7a(init, mixed_6a.channels());
        let blocks8 = BLOCK8.blocks(init, mixed_7a.channels());
        let last8 = Residual::new(init, mixed_7a.channels(), BLOCK8.branches, 1.0);
        let conv_7b = Chain::new(init, mixed_7a.channels(), &[Unit::same(1536, [1, 1])]);
        let channels = conv_7b.channels();
        let net = Self {
            stem1,
            stem2,
            mixed_5b,
            blocks35,
            mixed_6a,
            blocks17,
            mixed_7a,
            blocks8,
            last8,
            conv_7b,
        };
        (net, channels)
    }

    /// The network with its first `count` blocks frozen, from `mixed_5b` on, and the stem before them.
    pub(super) fn freeze_blocks(self, mut count: usize) -> Self {
        if count == 0 {
            return self;
        }
        // In the order of the network.
        let count = &mut count;
        Self {
            stem1: self.stem1.freeze(),
            stem2: self.stem2.freeze(),
            mixed_5b: freeze_next(self.mixed_5b, count),
            blocks35: freeze_first(self.blocks35, count),
            mixed_6a: freeze_next(self.mixed_6a, count),
            blocks17: freeze_first(self.blocks17, count),
            mixed_7a: freeze_next(self.mixed_7a, count),
            blocks8: freeze_first(self.blocks8, count),
            last8: freeze_next(self.last8, count),
            conv_7b: freeze_next(self.conv_7b, count),
        }
    }

    /// `[batch, 3, 200, 200]` to `[batch, 1536, 4, 4]`.
    pub(super) fn forward<I: Interpreter>(&self, x: I::Map, ops: &I) -> I::Map {
        let residual = |x, block: &Residual| block.forward(x, true, ops);
        let x = self.stem1.forward(x, ops); // [batch, 64, 97, 97]
        let x = ops.max_pool_3x3(x, PaddingConfig2d::Valid); // [batch, 64, 48, 48]
        let x = self.stem2.forward(x, ops); // [batch, 192, 46, 46]
        let x = ops.max_pool_3x3(x, PaddingConfig2d::Valid); // [batch, 192, 22, 22]
        let x = self.mixed_5b.forward(x, ops); // [batch, 320, 22, 22]
        let x = self.blocks35.iter().fold(x, residual);
        let x = self.mixed_6a.forward(x, ops); // [batch, 1088, 10, 10]
        let x = self.blocks17.iter().fold(x, residual);
        let x = self.mixed_7a.forward(x, ops); // [batch, 2080, 4, 4]
        let x = self.blocks8.iter().fold(x, residual);
        let x = self.last8.forward(x, false, ops);
        self.conv_7b.forward(x, ops)
    }
}

impl BlockConfig {
    fn blocks(self, init: &mut Init<'_>, channels: usize) -> Vec<Residual> {
        (0..self.count)
            .map(|_| Residual::new(init, channels, self.branches, self.scale))
            .collect()
    }
}

impl Residual {
    fn new(init: &mut Init<'_>, channels: usize, branches: &[&[Unit]], scale: f64) -> Self {
        let branches = Mixed::new(init, channels, branches, Pooled::Nothing);
        let up = init.conv(&Conv2dConfig::new([branches.channels(), channels], [1, 1]));
        Self {
            branches,
            up,
            scale,
        }
    }

    /// With or without the activation.
    fn forward<I: Interpreter>(&self, x: I::Map, relu: bool, ops: &I) -> I::Map {
        let branches = self.branches.forward(x.clone(), ops);
        ops.add_conv(x, &self.up, branches, self.scale, relu)
    }
}

fn mixed_5b(init: &mut Init<'_>, input: usize) -> Mixed {
    let branches: [&[Unit]; 3] = [
        &[Unit::same(96, [1, 1])],
        &[Unit::same(48, [1, 1]), Unit::same(64, [5, 5])],
        &[
            Unit::same(64, [1, 1]),
            Unit::same(96, [3, 3]),
            Unit::same(96, [3, 3]),
        ],
    ];
    Mixed::new(init, input, &branches, Pooled::Average(64))
}

fn mixed_6a(init: &mut Init<'_>, input: usize) -> Mixed {
    let branches: [&[Unit]; 2] = [
        &[Unit::valid(384, 3, 2)],
        &[
            Unit::same(256, [1, 1]),
            Unit::same(256, [3, 3]),
            Unit::valid(384, 3, 2),
        ],
    ];
    Mixed::new(init, input, &branches, Pooled::Max)
}

fn mixed_7a(init: &mut Init<'_>, input: usize) -> Mixed {
    let branches: [&[Unit]; 3] = [
        &[Unit::same(256, [1, 1]), Unit::valid(384, 3, 2)],
        &[Unit::same(256, [1, 1]), Unit::valid(288, 3, 2)],
        &[
            Unit::same(256, [1, 1]),
            Unit::same(288, [3, 3]),
            Unit::valid(320, 3, 2),
        ],
    ];
    Mixed::new(init, input, &branches, Pooled::Max)
}
