//! The convolutional networks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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

/// A name that is no backbone's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no backbone {0:?}; there are inception_resnet_v2, vgg16, resnet50, resnet50_v1_5 and inception_v3"
)]
pub struct UnknownBackbone(pub String);

impl Backbone {
    /// All backbones: the notebook's four in its order, then the variant.
    pub const ALL: [Self; 5] = [
        Self::InceptionResnetV2,
        Self::Vgg16,
        Self::Resnet50,
        Self::InceptionV3,
        Self::Resnet50V1_5,
    ];

    /// The name in specs and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InceptionResnetV2 => "inception_resnet_v2",
            Self::Vgg16 => "vgg16",
            Self::Resnet50 => "resnet50",
            Self::Resnet50V1_5 => "resnet50_v1_5",
            Self::InceptionV3 => "inception_v3",
        }
    }

    /// The least height and width of the input in pixels, as Keras has it for `include_top=False`.
    #[must_use]
    pub fn minimum_image_size(self) -> u32 {
        match self {
            Self::InceptionResnetV2 | Self::InceptionV3 => 75,
            Self::Vgg16 | Self::Resnet50 | Self::Resnet50V1_5 => 32,
        }
    }

    /// Billions of multiply-adds of one forward pass at 200x200, scaled by area from the published numbers.
    ///
    /// Sources: timm's model cards (VGG16 15.5, ResNet50 4.1 at 224x224, which is v1.5; InceptionV3 5.7,
    /// InceptionResNetV2 13.2 at 299x299) and He et al. 2015, table 1 (ResNet50 v1: 3.8 at 224x224).
    #[must_use]
    pub fn relative_cost(self) -> f64 {
        let (gmacs, side): (f64, f64) = match self {
            Self::InceptionResnetV2 => (13.2, 299.0),
            Self::Vgg16 => (15.5, 224.0),
            Self::Resnet50 => (3.8, 224.0),
            Self::Resnet50V1_5 => (4.1, 224.0),
            Self::InceptionV3 => (5.7, 299.0),
        };
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

    #[test]
    fn vgg16_costs_most_and_inception_v3_least() {
        let mut order = Backbone::ALL.to_vec();
        order.sort_by(|a, b| b.relative_cost().total_cmp(&a.relative_cost()));
        assert_eq!(order[0], Backbone::Vgg16);
        assert_eq!(order[1], Backbone::InceptionResnetV2);
        assert_eq!(order[4], Backbone::InceptionV3);
    }
}
