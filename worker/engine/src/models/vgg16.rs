//! VGG16 (Simonyan and Zisserman 2014), Keras' `VGG16(include_top=False)`.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};

use super::blocks::freeze_first;
use super::init::Init;
use super::interpreter::Interpreter;

/// Channels and convolutions of `block1` to `block5`.
const BLOCKS: [(usize, usize); 5] = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)];

/// 13 convolutions in five blocks. The map has a 32nd of the input's height and width, rounded down.
#[derive(Module, Debug)]
pub(super) struct Vgg16 {
    blocks: Vec<Block>,
}

/// `blockN_conv1`, `blockN_conv2`, .. and `blockN_pool`.
#[derive(Module, Debug)]
struct Block {
    convs: Vec<Conv2d>,
}

impl Vgg16 {
    /// The network and its output channels.
    pub(super) fn new(init: &mut Init<'_>) -> (Self, usize) {
        let mut channels = 3;
        let blocks = BLOCKS
            .iter()
            .map(|&(output, count)| {
                let output = init.channels(output);
                let mut conv = || {
                    let input = std::mem::replace(&mut channels, output);
                    let config = Conv2dConfig::new([input, output], [3, 3])
                        .with_padding(PaddingConfig2d::Same);
                    init.conv(&config)
                };
                Block {
                    convs: (0..count).map(|_| conv()).collect(),
                }
            })
            .collect();
        (Self { blocks }, channels)
    }

    /// The network with its first `count` blocks frozen.
    pub(super) fn freeze_blocks(self, mut count: usize) -> Self {
        Self {
            blocks: freeze_first(self.blocks, &mut count),
        }
    }

    /// `[batch, 3, 200, 200]` to `[batch, 512, 6, 6]`. There is no batch normalisation.
    pub(super) fn forward<I: Interpreter>(&self, x: I::Map, ops: &I) -> I::Map {
        self.blocks.iter().fold(x, |x, block| block.forward(x, ops))
    }
}

impl Block {
    fn forward<I: Interpreter>(&self, x: I::Map, ops: &I) -> I::Map {
        let convs = self.convs.iter();
        let x = convs.fold(x, |x, conv| ops.conv_relu(conv, x));
        ops.max_pool_2x2(x)
    }
}
