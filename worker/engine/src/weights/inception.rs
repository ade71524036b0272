//! The Inception families as Keras builds them, for the order of their layers, with our path and timm's name
//! beside each.
//!
//! After `keras/src/applications/inception_v3.py` and `inception_resnet_v2.py`.

#[cfg(test)]
mod tests;

use super::graph::{Graph, Node};
use super::layer::{Kind, Layer};

/// Units one after the other, by timm's names within their block.
type Branch = &'static [&'static str];

/// Layers of InceptionV3 in Keras' order.
pub(super) fn v3() -> Vec<Layer> {
    const MIXED_35: &[Branch] = &[
        &["branch1x1"],
        &["branch5x5_1", "branch5x5_2"],
        &["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"],
    ];
    const MIXED_3: &[Branch] = &[
        &["branch3x3"],
        &["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"],
    ];
    const MIXED_17: &[Branch] = &[
        &["branch1x1"],
        &["branch7x7_1", "branch7x7_2", "branch7x7_3"],
        &[
            "branch7x7dbl_1",
            "branch7x7dbl_2",
            "branch7x7dbl_3",
            "branch7x7dbl_4",
            "branch7x7dbl_5",
        ],
    ];
    const MIXED_8: &[Branch] = &[
        &["branch3x3_1", "branch3x3_2"],
        &[
            "branch7x7x3_1",
            "branch7x7x3_2",
            "branch7x7x3_3",
            "branch7x7x3_4",
        ],
    ];
    const AVERAGE: Pooled = Pooled::Average("branch_pool");
    const MIXED: [(&str, &[Branch], Pooled); 9] = [
        ("Mixed_5b", MIXED_35, AVERAGE),
        ("Mixed_5c", MIXED_35, AVERAGE),
        ("Mixed_5d", MIXED_35, AVERAGE),
        ("Mixed_6a", MIXED_3, Pooled::Max),
        ("Mixed_6b", MIXED_17, AVERAGE),
        ("Mixed_6c", MIXED_17, AVERAGE),
        ("Mixed_6d", MIXED_17, AVERAGE),
        ("Mixed_6e", MIXED_17, AVERAGE),
        ("Mixed_7a", MIXED_8, Pooled::Max),
    ];
    let mut model = Model::default();
    let stem1 = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"];
    let mut x = model.stem(&stem1, &["Conv2d_3b_1x1", "Conv2d_4a_3x3"]);
    for (index, (torch, branches, pooled)) in MIXED.into_iter().enumerate() {
        x = model.mixed(x, &format!("mixed.{index}"), torch, branches, pooled);
    }
    for (index, torch) in ["Mixed_7b", "Mixed_7c"].into_iter().enumerate() {
        x = model.wide(x, &format!("wide.{index}"), torch);
    }
    model.graph.into_keras_order(x)
}

/// Layers of InceptionResNetV2 in Keras' order.
pub(super) fn resnet_v2() -> Vec<Layer> {
    const MIXED_5B: &[Branch] = &[
        &["branch0"],
        &["branch1.0", "branch1.1"],
        &["branch2.0", "branch2.1", "branch2.2"],
    ];
    const MIXED_6A: &[Branch] = &[&["branch0"], &["branch1.0", "branch1.1", "branch1.2"]];
    const MIXED_7A: &[Branch] = &[
        &["branch0.0", "branch0.1"],
        &["branch1.0", "branch1.1"],
        &["branch2.0", "branch2.1", "branch2.2"],
    ];
    const BLOCK35: &[Branch] = MIXED_5B;
    const BLOCK17: &[Branch] = MIXED_6A;
    const BLOCK8: &[Branch] = MIXED_6A;

    let mut model = Model::default();
    let stem1 = ["conv2d_1a", "conv2d_2a", "conv2d_2b"];
    let x = model.stem(&stem1, &["conv2d_3b", "conv2d_4a"]);
    let mut x = model.mixed(
        x,
        "mixed_5b",
        "mixed_5b",
        MIXED_5B,
        Pooled::Average("branch3.1"),
    );
    for index in 0..10 {
        let (ours, torch) = (format!("blocks35.{index}"), format!("repeat.{index}"));
        x = model.residual(x, &ours, &torch, BLOCK35, true);
    }
    x = model.mixed(x, "mixed_6a", "mixed_6a", MIXED_6A, Pooled::Max);
    for index in 0..20 {
        let (ours, torch) = (format!("blocks17.{index}"), format!("repeat_1.{index}"));
        x = model.residual(x, &ours, &torch, BLOCK17, true);
    }
    x = model.mixed(x, "mixed_7a", "mixed_7a", MIXED_7A, Pooled::Max);
    for index in 0..9 {
        let (ours, torch) = (format!("blocks8.{index}"), format!("repeat_2.{index}"));
        x = model.residual(x, &ours, &torch, BLOCK8, true);
    }
    x = model.residual(x, "last8", "block8", BLOCK8, false);
    x = model.unit(x, "conv_7b.units.0", "conv2d_7b");
    model.graph.into_keras_order(x)
}

/// The branch of a block that pools its input.
#[derive(Clone, Copy, Debug)]
enum Pooled {
    /// The mean, then a unit of this name.
    Average(&'static str),
    Max,
}

/// Blocks in the order in which Keras' code makes their layers; `ours` and `torch` are the names of a block
/// or unit.
#[derive(Debug)]
struct Model {
    graph: Graph<Layer>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            graph: Graph::new(),
        }
    }
}

impl Model {
    /// Keras' `conv2d_bn`: convolution, batch normalisation, activation.
    fn unit(&mut self, x: Node, ours: &str, torch: &str) -> Node {
        let layer = |kind, ours: &str, torch: &str| Layer {
            kind,
            ours: ours.to_owned(),
            torch: torch.to_owned(),
            keras: None,
        };
        let conv = layer(
            Kind::Conv,
            &format!("{ours}.conv"),
            &format!("{torch}.conv"),
        );
        let norm = layer(Kind::Norm, &format!("{ours}.norm"), &format!("{torch}.bn"));
        let x = self.graph.layer(conv, x);
        let x = self.graph.layer(norm, x);
        self.graph.plain(&[x])
    }

    /// Our `Chain` of units.
    fn chain(&mut self, x: Node, ours: &str, torch: &str, names: &[&str]) -> Node {
        let units = names.iter().enumerate();
        units.fold(x, |x, (index, name)| {
            self.unit(
                x,
                &format!("{ours}.units.{index}"),
                &format!("{torch}{name}"),
            )
        })
    }

    /// From the input to the second pool.
    fn stem(&mut self, stem1: &[&str], stem2: &[&str]) -> Node {
        let x = self.graph.plain(&[]);
        let x = self.chain(x, "stem1", "", stem1);
        let x = self.graph.plain(&[x]);
        let x = self.chain(x, "stem2", "", stem2);
        self.graph.plain(&[x])
    }

    /// The branches of our `Mixed`.
    fn branches(&mut self, x: Node, ours: &str, torch: &str, branches: &[Branch]) -> Vec<Node> {
        let torch = format!("{torch}.");
        let mut ends = Vec::new();
        for (index, names) in branches.iter().enumerate() {
            ends.push(self.chain(x, &format!("{ours}.branches.{index}"), &torch, names));
        }
        ends
    }

    fn pooled(&mut self, x: Node, ours: &str, torch: &str, pooled: Pooled) -> Node {
        let x = self.graph.plain(&[x]);
        match pooled {
            Pooled::Average(name) => {
                self.chain(x, &format!("{ours}.average"), &format!("{torch}."), &[name])
            }
            Pooled::Max => x,
        }
    }

    fn mixed(
        &mut self,
        x: Node,
        ours: &str,
        torch: &str,
        branches: &[Branch],
        pooled: Pooled,
    ) -> Node {
        let mut ends = self.branches(x, ours, torch, branches);
        ends.push(self.pooled(x, ours, torch, pooled));
        self.graph.plain(&ends)
    }

    /// `mixed9` and `mixed10` of InceptionV3, where two branches end side by side.
    fn wide(&mut self, x: Node, ours: &str, torch: &str) -> Node {
        let prefix = format!("{torch}.");
        let mut forked = |part: &str, names: &[&str], ends: &[Branch]| {
            let end = self.chain(x, &format!("{ours}.{part}"), &prefix, names);
            match ends {
                [] => end,
                ends => {
                    let ends = self.branches(end, &format!("{ours}.{part}_ends"), torch, ends);
                    self.graph.plain(&ends)
                }
            }
        };
        let single = forked("single", &["branch1x1"], &[]);
        let double = forked(
            "double",
            &["branch3x3_1"],
            &[&["branch3x3_2a"], &["branch3x3_2b"]],
        );
        let triple = forked(
            "triple",
            &["branch3x3dbl_1", "branch3x3dbl_2"],
            &[&["branch3x3dbl_3a"], &["branch3x3dbl_3b"]],
        );
        let average = Pooled::Average("branch_pool");
        let pooled = self.pooled(x, &format!("{ours}.pooled"), torch, average);
        self.graph.plain(&[single, double, triple, pooled])
    }

    /// `inception_resnet_block`: branches, a 1x1 convolution with bias, the scaled sum, and mostly an
    /// activation.
    fn residual(
        &mut self,
        x: Node,
        ours: &str,
        torch: &str,
        branches: &[Branch],
        activation: bool,
    ) -> Node {
        let ends = self.branches(x, &format!("{ours}.branches"), torch, branches);
        let mixed = self.graph.plain(&ends);
        let up = Layer {
            kind: Kind::Conv,
            ours: format!("{ours}.up"),
            torch: format!("{torch}.conv2d"),
            keras: None,
        };
        let up = self.graph.layer(up, mixed);
        let sum = self.graph.plain(&[x, up]);
        match activation {
            true => self.graph.plain(&[sum]),
            false => sum,
        }
    }
}
