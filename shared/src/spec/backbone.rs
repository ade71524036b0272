//! The convolutional networks, and the one table of what is known about each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Variant;
use crate::ids::RunName;

/// One of the four convolutional networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backbone {
    /// Szegedy et al. 2016, residual scales 0.17, 0.10, 0.20.
    InceptionResnetV2,
    /// Simonyan and Zisserman 2014.
    Vgg16,
    /// He et al. 2015, in Keras' layout: stride on the first 1x1 convolution, biases (v1).
    Resnet50,
    /// The same with torchvision's layout: stride on the 3x3 convolution, no biases (v1.5).
    #[serde(rename = "resnet50_v1_5")]
    Resnet50V1_5,
    /// Szegedy et al. 2015.
    InceptionV3,
}

/// The architecture: backbones of one family have the same layers, and differ in details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// The Inception blocks with residual connections.
    InceptionResnetV2,
    /// Stacks of 3x3 convolutions.
    Vgg16,
    /// Bottlenecks with residual connections.
    Resnet50,
    /// The Inception blocks.
    InceptionV3,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The backbone that the row is about.
    pub backbone: Backbone,
    /// The name in specs, files and messages.
    pub name: &'static str,
    /// The name in papers.
    pub title: &'static str,
    /// The architecture.
    pub family: Family,
    /// Billions of multiply-adds of one forward pass, and the image size in pixels that the number is for.
    pub published_cost: (f64, f64),
    /// Parameters without the classifier, running means and variances among them, as Keras counts them.
    pub parameters: u64,
    /// The least height and width of the input in pixels, as Keras has it for `include_top=False`.
    pub minimum_image_size: u32,
    /// The variants that the network can have. The first is that of random weights.
    pub variants: &'static [Variant],
    /// The repository on the Hugging Face hub that the weights `imagenet` are from.
    pub imagenet: &'static str,
    /// The licence of those weights.
    pub licence: &'static str,
}

/// The table, in the order of [`Backbone`]: a new variant needs a row here.
///
/// Sources of the costs: timm's model cards (VGG16, ResNet50 v1.5, InceptionV3, InceptionResNetV2) and
/// He et al. 2015, table 1 (ResNet50 v1).
const TABLE: [Facts; 5] = [
    Facts {
        backbone: Backbone::InceptionResnetV2,
        name: "inception_resnet_v2",
        title: "InceptionResNetV2",
        family: Family::InceptionResnetV2,
        published_cost: (13.2, 299.0),
        parameters: 54_336_736,
        minimum_image_size: 75,
        variants: &[Variant::Keras, Variant::Torch],
        imagenet: "timm/inception_resnet_v2.tf_in1k",
        licence: "Apache-2.0",
    },
    Facts {
        backbone: Backbone::Vgg16,
        name: "vgg16",
        title: "VGG16",
        family: Family::Vgg16,
        published_cost: (15.5, 224.0),
        parameters: 14_714_688,
        minimum_image_size: 32,
        variants: &[Variant::Keras],
        imagenet: "timm/vgg16.tv_in1k",
        licence: "BSD-3-Clause",
    },
    Facts {
        backbone: Backbone::Resnet50,
        name: "resnet50",
        title: "ResNet50",
        family: Family::Resnet50,
        published_cost: (3.8, 224.0),
        parameters: 23_587_712,
        minimum_image_size: 32,
        variants: &[Variant::Keras, Variant::Keras2018, Variant::Torch],
        imagenet: "timm/resnet50.tv_in1k",
        licence: "BSD-3-Clause",
    },
    Facts {
        backbone: Backbone::Resnet50V1_5,
        name: "resnet50_v1_5",
        title: "ResNet50 v1.5",
        family: Family::Resnet50,
        published_cost: (4.1, 224.0),
        parameters: 23_561_152,
        minimum_image_size: 32,
        variants: &[Variant::Torch],
        imagenet: "timm/resnet50.tv_in1k",
        licence: "BSD-3-Clause",
    },
    Facts {
        backbone: Backbone::InceptionV3,
        name: "inception_v3",
        title: "InceptionV3",
        family: Family::InceptionV3,
        published_cost: (5.7, 299.0),
        parameters: 21_802_784,
        minimum_image_size: 75,
        variants: &[Variant::Keras, Variant::Torch],
        imagenet: "timm/inception_v3.tf_in1k",
        licence: "Apache-2.0",
    },
];

/// A name that is no backbone's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no backbone {0:?}; there are {names}", names = names())]
pub struct UnknownBackbone(pub String);

/// All names as a sentence has them: `a, b and c`.
fn names() -> String {
    let names = TABLE.map(|row| row.name);
    let [others @ .., last] = &names;
    format!("{} and {last}", others.join(", "))
}

impl Backbone {
    /// All backbones, in the order of the table.
    pub const ALL: [Self; TABLE.len()] = {
        let mut all = [Self::Vgg16; TABLE.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = TABLE[i].backbone;
            assert!(all[i] as usize == i, "a row of TABLE is out of order");
            i += 1;
        }
        all
    };

    /// What is known about this backbone: its row of the table.
    #[must_use]
    pub const fn facts(self) -> &'static Facts {
        &TABLE[self as usize]
    }

    /// The name in specs and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.facts().name
    }

    /// The name of a run of this backbone that has none of its own.
    pub(super) fn run_name(self) -> RunName {
        let name = self.as_str().parse();
        name.expect("backbones have valid names")
    }

    /// The least height and width of the input in pixels.
    #[must_use]
    pub const fn minimum_image_size(self) -> u32 {
        self.facts().minimum_image_size
    }

    /// Billions of multiply-adds of one forward pass at 200x200, scaled by area from the published number.
    #[must_use]
    pub fn relative_cost(self) -> f64 {
        let (gmacs, side) = self.facts().published_cost;
        gmacs * (200.0 / side).powi(2)
    }
}

impl fmt::Display for Backbone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Backbone {
    type Err = UnknownBackbone;

    fn from_str(name: &str) -> Result<Self, UnknownBackbone> {
        Self::ALL
            .into_iter()
            .find(|backbone| backbone.as_str() == name)
            .ok_or_else(|| UnknownBackbone(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_everywhere() {
        for backbone in Backbone::ALL {
            assert_eq!(serde_json::to_value(backbone).unwrap(), backbone.as_str());
            assert_eq!(backbone.to_string().parse(), Ok(backbone));
        }
        assert!("VGG16".parse::<Backbone>().is_err());
    }

    /// Where serde meets an unknown variant of an enum, it lists them all.
    #[test]
    fn every_variant_has_a_row() {
        let error = serde_json::from_str::<Backbone>("\"\"").unwrap_err();
        let names = TABLE.map(|row| format!("`{}`", row.name)).join(", ");
        let expected = format!("unknown variant ``, expected one of {names} at line");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }

    #[test]
    fn vgg16_costs_most_and_inception_v3_least() {
        let mut order = Backbone::ALL.to_vec();
        order.sort_by(|a, b| b.relative_cost().total_cmp(&a.relative_cost()));
        assert_eq!(order[0], Backbone::Vgg16);
        assert_eq!(order[1], Backbone::InceptionResnetV2);
        assert_eq!(order[4], Backbone::InceptionV3);
    }
}
