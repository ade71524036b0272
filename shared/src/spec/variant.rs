//! Which implementation of a published network ours follows, where they differ.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The implementation whose weights a network takes. VGG16 is the same in all of them.
///
/// | | ResNet50 | InceptionV3 | InceptionResNetV2 |
/// | --- | --- | --- | --- |
/// | `keras` | v1, biases, epsilon 1.001e-5 | no gamma, mean without padding | no gamma |
/// | `keras_2018` | v1, biases, epsilon 1e-3, first pool without padding | as `keras` | as `keras` |
/// | `torch` | v1.5, no biases, epsilon 1e-5 | gamma, mean counts padding | gamma |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Keras' applications since 2018.
    Keras,
    /// Keras' applications until 2018.
    #[serde(rename = "keras_2018")]
    Keras2018,
    /// torchvision and timm.
    Torch,
}

impl Variant {
    /// The name in checkpoints.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keras => "keras",
            Self::Keras2018 => "keras_2018",
            Self::Torch => "torch",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_everywhere() {
        for variant in [Variant::Keras, Variant::Keras2018, Variant::Torch] {
            assert_eq!(serde_json::to_value(variant).unwrap(), variant.as_str());
        }
    }
}
