//! ResNet50 (He et al. 2015) in three layouts: Keras' v1, that of 2018 and today's, and torchvision's v1.5.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, PaddingConfig2d};
use quartet_shared::spec::Variant;

use super::blocks::{KERAS_EPSILON, freeze_first};
use super::init::Init;
use super::interpreter::Interpreter;

/// Inner channels, blocks and stride of `conv2` to `conv5`.
const STAGES: [(usize, usize, usize); 4] = [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)];

/// A block's output has this many times its inner channels.
const EXPANSION: usize = 4;

/// What tells the layouts apart; the weights of one do not fit the other.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Whether the strided convolution of a stage is its first 1x1 instead of the 3x3.
    stride_first: bool,
    /// Whether convolutions have biases.
    bias: bool,
    epsilon: f64,
    /// Whether the stem's max-pool is padded.
    pool_padded: bool,
}

impl Layout {
    fn of(variant: Variant) -> Self {
        match variant {
            Variant::Keras => Self {
                stride_first: true,
                bias: true,
                epsilon: 1.001e-5,
                pool_padded: true,
            },
            Variant::Keras2018 => Self {
                epsilon: KERAS_EPSILON,
                pool_padded: false,
                ..Self::of(Variant::Keras)
            },
            // Known as v1.5.
            Variant::Torch => Self {
                stride_first: false,
                bias: false,
                epsilon: 1e-5,
                pool_padded: true,
            },
        }
    }

    fn conv(
        self,
        init: &mut Init<'_>,
        channels: [usize; 2],
        kernel: usize,
        stride: usize,
    ) -> Conv2d {
        let pad = kernel / 2;
        let config = Conv2dConfig::new(channels, [kernel, kernel])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
            .with_bias(self.bias);
        init.conv(&config)
    }
}

/// Stem and 16 bottlenecks. The map has a 32nd of the input's height and width, rounded up.
#[derive(Module, Debug)]
pub(super) struct Resnet50 {
    /// `conv1_conv`, torchvision's `conv1`.
    conv: Conv2d,
    /// `conv1_bn`, torchvision's `bn1`.
    norm: BatchNorm,
    pool_padded: bool,
    /// `conv2` to `conv5`, torchvision's `layer1` to `layer4`.
    stages: Vec<Stage>,
}

/// `convN_block1`, `convN_block2`, ..
#[derive(Module, Debug)]
struct Stage {
    blocks: Vec<Bottleneck>,
}

/// 1x1, 3x3, 1x1, plus the shortcut.
#[derive(Module, Debug)]
struct Bottleneck {
    /// `_0_conv` and `_0_bn`, torchvision's `downsample`: in the first block of a stage.
    shortcut: Option<Projection>,
    /// `_1_conv`.
    conv1: Conv2d,
    /// `_1_bn`.
    norm1: BatchNorm,
    /// `_2_conv`.
    conv2: Conv2d,
    /// `_2_bn`.
    norm2: BatchNorm,
    /// `_3_conv`.
    conv3: Conv2d,
    /// `_3_bn`.
    norm3: BatchNorm,
}

/// 1x1 convolution and batch normalisation.
#[derive(Module, Debug)]
struct Projection {
    conv: Conv2d,
    norm: BatchNorm,
}

impl Resnet50 {
    /// The network and its output channels.
    pub(super) fn new(init: &mut Init<'_>) -> (Self, usize) {
        let layout = Layout::of(init.variant());
        let mut channels = init.channels(64);
        let conv = layout.conv(init, [3, channels], 7, 2);
        let norm = init.batch_norm(channels, layout.epsilon);
        let stages = STAGES
            .iter()
            .map(|&(inner, count, stride)| {
                let mut block = |index| {
                    let output = init.channels(inner * EXPANSION);
                    let input = std::mem::replace(&mut channels, output);
                    let stride = (index == 0).then_some(stride);
                    Bottleneck::new(init, layout, [input, inner, output], stride)
                };
                Stage {
                    blocks: (0..count).map(&mut block).collect(),
                }
            })
            .collect();
        let net = Self {
            conv,
            norm,
            pool_padded: layout.pool_padded,
            stages,
        };
        (net, channels)
    }

    /// The network with its first `count` blocks frozen, of which the stem is one.
    pub(super) fn freeze_blocks(self, count: usize) -> Self {
        let Some(mut count) = count.checked_sub(1) else {
            return self;
        };
        let stages = self.stages.into_iter().map(|stage| Stage {
            blocks: freeze_first(stage.blocks, &mut count),
        });
        Self {
            stages: stages.collect(),
            conv: self.conv.freeze(),
            norm: self.norm.freeze(),
            pool_padded: self.pool_padded,
        }
    }

    /// `[batch, 3, 200, 200]` to `[batch, 2048, 7, 7]`.
    pub(super) fn forward<I: Interpreter>(&self, x: I::Map, ops: &I) -> I::Map {
        let x = ops.conv_bn_relu(&self.conv, &self.norm, x); // [batch, 64, 100, 100]
        let padding = match self.pool_padded {
            true => PaddingConfig2d::Explicit(1, 1, 1, 1),
            false => PaddingConfig2d::Valid,
        };
        let x = ops.max_pool_3x3(x, padding); // [batch, 64, 50, 50], without padding 49
        let blocks = self.stages.iter().flat_map(|stage| &stage.blocks);
        blocks.fold(x, |x, block| block.forward(x, ops)) // 256 x 50, 512 x 25, 1024 x 13, 2048 x 7
    }
}

impl Bottleneck {
    /// `stride` is that of a stage's first block; later blocks have none and no projection.
    fn new(
        init: &mut Init<'_>,
        layout: Layout,
        [input, inner, output]: [usize; 3],
        stride: Option<usize>,
    ) -> Self {
        let inner = init.channels(inner);
        let shortcut = stride.map(|stride| Projection {
            conv: layout.conv(init, [input, output], 1, stride),
            norm: init.batch_norm(output, layout.epsilon),
        });
        let stride = stride.unwrap_or(1);
        let (stride1, stride2) = match layout.stride_first {
            true => (stride, 1),
            false => (1, stride),
        };
        Self {
            shortcut,
            conv1: layout.conv(init, [input, inner], 1, stride1),
            norm1: init.batch_norm(inner, layout.epsilon),
            conv2: layout.conv(init, [inner, inner], 3, stride2),
            norm2: init.batch_norm(inner, layout.epsilon),
            conv3: layout.conv(init, [inner, output], 1, 1),
            norm3: init.batch_norm(output, layout.epsilon),
        }
    }

    fn forward<I: Interpreter>(&self, x: I::Map, ops: &I) -> I::Map {
        let shortcut = match &self.shortcut {
            Some(projection) => projection.forward(x.clone(), ops),
            None => x.clone(),
        };
        let x = ops.conv_bn_relu(&self.conv1, &self.norm1, x);
        let x = ops.conv_bn_relu(&self.conv2, &self.norm2, x);
        ops.conv_bn_add_relu(&self.conv3, &self.norm3, x, shortcut)
    }
}

impl Projection {
    fn forward<I: Interpreter>(&self, x: I::Map, ops: &I) -> I::Map {
        ops.conv_bn(&self.conv, &self.norm, x)
    }
}
