//! InceptionV3 (Szegedy et al. 2015), Keras' `InceptionV3(include_top=False)`; torchvision's and timm's has a
//! gamma and counts the padding in its means.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use quartet_shared::spec::Variant;

use super::blocks::{Chain, Mixed, Pooled, Unit, freeze_first};
use super::init::Init;
use super::interpreter::Interpreter;

/// Stem, `mixed0` to `mixed10`.
#[derive(Module, Debug)]
pub(super) struct InceptionV3 {
    /// `Conv2d_1a_3x3` to `Conv2d_2b_3x3`, before the first pool.
    stem1: Chain,
    /// `Conv2d_3b_1x1` and `Conv2d_4a_3x3`, before the second.
    stem2: Chain,
    /// `mixed0` to `mixed8`; timm's `Mixed_5b` to `Mixed_7a`.
    mixed: Vec<Mixed>,
    /// `mixed9` and `mixed10`; timm's `Mixed_7b` and `Mixed_7c`.
    wide: Vec<Wide>,
}

/// The widest blocks, where two branches end in a 1x3 and a 3x1 side by side.
#[derive(Module, Debug)]
struct Wide {
    /// 1x1.
    single: Chain,
    /// 1x1, then side by side.
    double: Chain,
    double_ends: Mixed,
    /// 1x1, 3x3, then side by side.
    triple: Chain,
    triple_ends: Mixed,
    /// Mean, then 1x1.
    pooled: Mixed,
}

impl InceptionV3 {
    /// The network and its output channels.
    pub(super) fn new(init: &mut Init<'_>) -> (Self, usize) {
        let [stem1, stem2] = Chain::stem(init);
        let mut channels = stem2.channels();
        let mut mixed = Vec::new();
        let mut push = |block: Mixed| {
            let output = block.channels();
            mixed.push(block);
            output
        };
        for pooled in [32, 64, 64] {
            channels = push(mixed_35(init, channels, pooled));
        }
        channels = push(mixed_3(init, channels));
        for inner in [128, 160, 160, 192] {
            channels = push(mixed_17(init, channels, inner));
        }
        channels = push(mixed_8(init, channels));
        let wide = (0..2)
            .map(|_| {
                let block = Wide::new(init, channels);
                channels = block.channels();
                block
            })
            .collect();
        let net = Self {
            stem1,
            stem2,
            mixed,
            wide,
        };
        (net, channels)
    }

    /// The network with its first `count` blocks frozen, from `mixed0` on, and the stem before them.
    pub(super) fn freeze_blocks(self, mut count: usize) -> Self {
        if count == 0 {
            return self;
        }
        Self {
            stem1: self.stem1.freeze(),
            stem2: self.stem2.freeze(),
            mixed: freeze_first(self.mixed, &mut count),
            wide: freeze_first(self.wide, &mut count),
        }
    }

    /// `[batch, 3, 200, 200]` to `[batch, 2048, 4, 4]`.
    pub(super) fn forward<I: Interpreter>(&self, x: I::Map, ops: &I) -> I::Map {
        let x = self.stem1.forward(x, ops); // [batch, 64, 97, 97]
        let x = ops.max_pool_3x3(x, PaddingConfig2d::Valid); // [batch, 64, 48, 48]
        let x = self.stem2.forward(x, ops); // [batch, 192, 46, 46]
        let x = ops.max_pool_3x3(x, PaddingConfig2d::Valid); // [batch, 192, 22, 22]
        let mixed = self.mixed.iter();
        let x = mixed.fold(x, |x, block| block.forward(x, ops)); // 288 x 22, 768 x 10, 1280 x 4
        let wide = self.wide.iter();
        wide.fold(x, |x, block| block.forward(x, ops)) // [batch, 2048, 4, 4]
    }
}

/// The pooled branch.
fn average(init: &Init<'_>, channels: usize) -> Pooled {
    match init.variant() {
        Variant::Keras | Variant::Keras2018 => Pooled::Average(channels),
        Variant::Torch => Pooled::AverageWithPadding(channels),
    }
}

/// `mixed0` to `mixed2`, named after the map's side at the published input of 299.
fn mixed_35(init: &mut Init<'_>, input: usize, pooled: usize) -> Mixed {
    let branches: [&[Unit]; 3] = [
        &[Unit::same(64, [1, 1])],
        &[Unit::same(48, [1, 1]), Unit::same(64, [5, 5])],
        &[
            Unit::same(64, [1, 1]),
            Unit::same(96, [3, 3]),
            Unit::same(96, [3, 3]),
        ],
    ];
    let pooled = average(init, pooled);
    Mixed::new(init, input, &branches, pooled)
}

/// `mixed3`, which halves the map.
fn mixed_3(init: &mut Init<'_>, input: usize) -> Mixed {
    let branches: [&[Unit]; 2] = [
        &[Unit::valid(384, 3, 2)],
        &[
            Unit::same(64, [1, 1]),
            Unit::same(96, [3, 3]),
            Unit::valid(96, 3, 2),
        ],
    ];
    Mixed::new(init, input, &branches, Pooled::Max)
}

/// `mixed4` to `mixed7`: 7x7 as 1x7 and 7x1.
fn mixed_17(init: &mut Init<'_>, input: usize, inner: usize) -> Mixed {
    let branches: [&[Unit]; 3] = [
        &[Unit::same(192, [1, 1])],
        &[
            Unit::same(inner, [1, 1]),
            Unit::same(inner, [1, 7]),
            Unit::same(192, [7, 1]),
        ],
        &[
            Unit::same(inner, [1, 1]),
            Unit::same(inner, [7, 1]),
            Unit::same(inner, [1, 7]),
            Unit::same(inner, [7, 1]),
            Unit::same(192, [1, 7]),
        ],
    ];
    let pooled = average(init, 192);
    Mixed::new(init, input, &branches, pooled)
}

/// `mixed8`, which halves the map.
fn mixed_8(init: &mut Init<'_>, input: usize) -> Mixed {
    let branches: [&[Unit]; 2] = [
        &[Unit::same(192, [1, 1]), Unit::valid(320, 3, 2)],
        &[
            Unit::same(192, [1, 1]),
            Unit::same(192, [1, 7]),
            Unit::same(192, [7, 1]),
            Unit::valid(192, 3, 2),
        ],
    ];
    Mixed::new(init, input, &branches, Pooled::Max)
}

impl Wide {
    fn new(init: &mut Init<'_>, input: usize) -> Self {
        let ends = |init: &mut Init<'_>, input: usize| {
            let units: [&[Unit]; 2] = [&[Unit::same(384, [1, 3])], &[Unit::same(384, [3, 1])]];
            Mixed::new(init, input, &units, Pooled::Nothing)
        };
        let single = Chain::new(init, input, &[Unit::same(320, [1, 1])]);
        let double = Chain::new(init, input, &[Unit::same(384, [1, 1])]);
        let double_ends = ends(init, double.channels());
        let triple = Chain::new(
            init,
            input,
            &[Unit::same(448, [1, 1]), Unit::same(384, [3, 3])],
        );
        let triple_ends = ends(init, triple.channels());
        let pooled = average(init, 192);
        Self {
            single,
            double,
            double_ends,
            triple,
            triple_ends,
            pooled: Mixed::new(init, input, &[], pooled),
        }
    }

    fn channels(&self) -> usize {
        self.single.channels()
            + self.double_ends.channels()
            + self.triple_ends.channels()
            + self.pooled.channels()
    }

    fn forward<I: Interpreter>(&self, x: I::Map, ops: &I) -> I::Map {
        let double = self.double.forward(x.clone(), ops);
        let triple = self.triple.forward(x.clone(), ops);
        ops.concat(vec![
            self.single.forward(x.clone(), ops),
            self.double_ends.forward(double, ops),
            self.triple_ends.forward(triple, ops),
            self.pooled.forward(x, ops),
        ])
    }
}
