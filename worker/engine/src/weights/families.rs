//! One table for all sources: what files of weights have in common for the backbones of a family.

use quartet_shared::spec::{Backbone, Family, Variant};

use super::inception;
use super::layer::{BACKBONE, Kind, Layer};

/// A row of the table.
pub(super) struct FamilyFiles {
    /// The layers by our paths below [`BACKBONE`]; those of each kind in the order of Keras' `model.layers`,
    /// and all of them where they have no names in Keras.
    layers: fn(Variant) -> Vec<Layer>,
    /// Whether the implementations differ in anything.
    pub(super) has_variants: bool,
    /// Whether Keras' batch normalisations have a gamma.
    gamma_in_keras: bool,
    /// Names in torch's files where whatever lies below belongs to the classifier or to an auxiliary one.
    pub(super) torch_heads: &'static [&'static str],
    /// Output channels of the published network's first convolution.
    pub(super) stem_channels: usize,
}

/// The row of a backbone's family.
pub(super) fn files(backbone: Backbone) -> FamilyFiles {
    match backbone.facts().family {
        Family::Vgg16 => FamilyFiles {
            layers: |_| vgg16(),
            has_variants: false,
            gamma_in_keras: true,
            torch_heads: &["classifier.", "pre_logits.", "head."],
            stem_channels: 64,
        },
        Family::Resnet50 => FamilyFiles {
            layers: resnet50,
            has_variants: true,
            gamma_in_keras: true,
            torch_heads: &["fc."],
            stem_channels: 64,
        },
        Family::InceptionV3 => FamilyFiles {
            layers: |_| inception::v3(),
            has_variants: true,
            gamma_in_keras: false,
            torch_heads: &["fc.", "AuxLogits."],
            stem_channels: 32,
        },
        Family::InceptionResnetV2 => FamilyFiles {
            layers: |_| inception::resnet_v2(),
            has_variants: true,
            gamma_in_keras: false,
            torch_heads: &["classif.", "last_linear."],
            stem_channels: 32,
        },
    }
}

impl FamilyFiles {
    /// Whether the batch normalisations have a gamma in this variant.
    pub(super) fn has_gamma(&self, variant: Variant) -> bool {
        self.gamma_in_keras || variant == Variant::Torch
    }
}

/// The layers of a backbone; those of each kind in the order of Keras' `model.layers`, and all of them where
/// they have no names in Keras.
pub(super) fn layers(backbone: Backbone, variant: Variant) -> Vec<Layer> {
    let mut layers = (files(backbone).layers)(variant);
    for layer in &mut layers {
        layer.ours.insert_str(0, BACKBONE);
    }
    layers
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
            // The projection comes before the unit that it is added to, as in Keras' `model.layers`.
            let parts = match block {
                0 => &[1, 2, 0, 3][..],
                _ => &[1, 2, 3],
            };
            for &part in parts {
                let (ours, torch) = match part {
                    0 => (
                        ["conv", "norm"].map(|kind| format!("{ours}.shortcut.{kind}")),
                        ["0", "1"].map(|index| format!("{torch}.downsample.{index}")),
                    ),
                    part => (
                        ["conv", "norm"].map(|kind| format!("{ours}.{kind}{part}")),
                        ["conv", "bn"].map(|kind| format!("{torch}.{kind}{part}")),
                    ),
                };
                layers.extend(pair(ours, torch, keras(part)));
            }
        }
    }
    layers
}
