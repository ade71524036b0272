//! One table for all sources: each layer with weights of a backbone, by our path, by timm's name, and by Keras' name or
//! its place in Keras' order.

use quartet_shared::spec::Backbone;

use super::inception;
use crate::models::Variant;

/// Where the backbone's parameters begin in a network's names.
pub(super) const BACKBONE: &str = "backbone.";

/// A layer with weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) kind: Kind,
    /// Its path in our networks, such as `backbone.stages.0.blocks.0.conv1`.
    pub(super) ours: String,
    /// Its name in torchvision and timm, such as `layer1.0.conv1`.
    pub(super) torch: String,
    /// Its name in Keras, such as `conv2_block1_1_conv`; none where Keras numbers layers by itself, so that only the
    /// order tells.
    pub(super) keras: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Convolution, with bias or without.
    Conv,
    /// Batch normalisation, in Keras with gamma or without.
    Norm,
}

/// A parameter's last name in each world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub(super) ours: &'static str,
    pub(super) torch: &'static str,
    pub(super) keras: &'static str,
}

impl Kind {
    /// The parameters in Keras' order.
    pub(super) fn parameters(self) -> &'static [Names] {
        const fn names(ours: &'static str, torch: &'static str, keras: &'static str) -> Names {
            Names { ours, torch, keras }
        }
        const CONV: &[Names] = &[
            names("weight", "weight", "kernel"),
            names("bias", "bias", "bias"),
        ];
        const NORM: &[Names] = &[
            names("gamma", "weight", "gamma"),
            names("beta", "bias", "beta"),
            names("running_mean", "running_mean", "moving_mean"),
            names("running_var", "running_var", "moving_variance"),
        ];
        match self {
            Self::Conv => CONV,
            Self::Norm => NORM,
        }
    }
}

/// The layers of a backbone; where they have no names in Keras, in the order of Keras' `model.layers`.
pub(super) fn layers(backbone: Backbone, variant: Variant) -> Vec<Layer> {
    let mut layers = match backbone {
        Backbone::Vgg16 => vgg16(),
        Backbone::Resnet50 | Backbone::Resnet50V1_5 => resnet50(variant),
        Backbone::InceptionV3 => inception::v3(),
        Backbone::InceptionResnetV2 => inception::resnet_v2(),
    };
    for layer in &mut layers {
        layer.ours.insert_str(0, BACKBONE);
    }
    layers
}

/// Names in torch's files where whatever lies below belongs to the classifier or to an auxiliary one.
pub(super) fn torch_heads(backbone: Backbone) -> &'static [&'static str] {
    match backbone {
        Backbone::Vgg16 => &["classifier.", "pre_logits.", "head."],
        Backbone::Resnet50 | Backbone::Resnet50V1_5 => &["fc."],
        Backbone::InceptionV3 => &["fc.", "AuxLogits."],
        Backbone::InceptionResnetV2 => &["classif.", "last_linear."],
    }
}

/// Whether the batch normalisations of a backbone have a gamma in this variant.
pub(super) fn scaled(backbone: Backbone, variant: Variant) -> bool {
    match backbone {
        Backbone::InceptionV3 | Backbone::InceptionResnetV2 => variant == Variant::Torch,
        Backbone::Vgg16 | Backbone::Resnet50 | Backbone::Resnet50V1_5 => true,
    }
}

/// Output channels of the published network's first convolution.
pub(super) fn stem_channels(backbone: Backbone) -> usize {
    match backbone {
        Backbone::Vgg16 | Backbone::Resnet50 | Backbone::Resnet50V1_5 => 64,
        Backbone::InceptionV3 | Backbone::InceptionResnetV2 => 32,
    }
}

fn vgg16() -> Vec<Layer> {
    // torch's `features` also counts the activations and the pools.
    const FEATURES: [&[usize]; 5] = [
        &[0, 2],
        &[5, 7],
        &[10, 12, 14],
        &[17, 19, 21],
        &[24, 26, 28],
    ];
    let blocks = FEATURES.iter().enumerate();
    let convs = blocks.flat_map(|(block, convs)| {
        let convs = convs.iter().enumerate();
        convs.map(move |(conv, feature)| Layer {
            kind: Kind::Conv,
            ours: format!("blocks.{block}.convs.{conv}"),
            torch: format!("features.{feature}"),
            keras: Some(format!("block{}_conv{}", block + 1, conv + 1)),
        })
    });
    convs.collect()
}

fn resnet50(variant: Variant) -> Vec<Layer> {
    let old = variant == Variant::Keras2018;
    let pair = |ours: [String; 2], torch: [String; 2], keras: [String; 2]| {
        let kinds = [Kind::Conv, Kind::Norm].into_iter();
        let names = kinds.zip(ours).zip(torch).zip(keras);
        names.map(|(((kind, ours), torch), keras)| Layer {
            kind,
            ours,
            torch,
            keras: Some(keras),
        })
    };
    let stem = match old {
        true => ["conv1", "bn_conv1"],
        false => ["conv1_conv", "conv1_bn"],
    };
    let mut layers: Vec<Layer> = pair(
        ["conv", "norm"].map(str::to_owned),
        ["conv1", "bn1"].map(str::to_owned),
        stem.map(str::to_owned),
    )
    .collect();
    for (stage, count) in [3, 4, 6, 3].into_iter().enumerate() {
        for (block, letter) in ('a'..'g').enumerate().take(count) {
            let ours = format!("stages.{stage}.blocks.{block}");
            let torch = format!("layer{}.{block}", stage + 1);
            let keras = |part: usize| match old {
                true => {
                    let branch = ["1", "2a", "2b", "2c"][part];
                    ["res", "bn"].map(|kind| format!("{kind}{}{letter}_branch{branch}", stage + 2))
                }
                false => ["conv", "bn"]
                    .map(|kind| format!("conv{}_block{}_{part}_{kind}", stage + 2, block + 1)),
            };
            if block == 0 {
                layers.extend(pair(
                    ["conv", "norm"].map(|kind| format!("{ours}.shortcut.{kind}")),
                    ["0", "1"].map(|index| format!("{torch}.downsample.{index}")),
                    keras(0),
                ));
            }
            for part in 1..=3 {
                layers.extend(pair(
                    ["conv", "norm"].map(|kind| format!("{ours}.{kind}{part}")),
                    ["conv", "bn"].map(|kind| format!("{torch}.{kind}{part}")),
                    keras(part),
                ));
            }
        }
    }
    layers
}
