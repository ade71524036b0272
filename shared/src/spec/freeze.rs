//! Which of the backbone's first layers a run leaves as they are.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::backbone::{Backbone, Family};

/// The first layers of the backbone that are not trained, as with Keras' `layer.trainable = False`: their
/// parameters get no update, and their batch normalisation is by the running statistics, which stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Freeze {
    /// `none`: all layers are trained.
    #[default]
    None,
    /// `backbone`: only the head is trained.
    Backbone,
    /// Anything else: the layers up to and with this block, by Keras' name.
    Through(String),
}

/// Blocks of a backbone one after the other: Keras' name of all of them, if it has one; what stands before
/// the number of each; and the numbers.
struct Blocks(Option<&'static str>, &'static str, [usize; 2]);

/// A block that stands alone.
const fn single(name: &'static str) -> Blocks {
    Blocks(Some(name), "", [0, 0])
}

const VGG16: [Blocks; 1] = [Blocks(None, "block", [1, 5])];
const RESNET50: [Blocks; 5] = [
    single("conv1"),
    Blocks(Some("conv2"), "conv2_block", [1, 3]),
    Blocks(Some("conv3"), "conv3_block", [1, 4]),
    Blocks(Some("conv4"), "conv4_block", [1, 6]),
    Blocks(Some("conv5"), "conv5_block", [1, 3]),
];
/// The first block of the Inceptions has their stem before it, to whose layers Keras gives no names.
const INCEPTION_V3: [Blocks; 1] = [Blocks(None, "mixed", [0, 10])];
const INCEPTION_RESNET_V2: [Blocks; 7] = [
    single("mixed_5b"),
    Blocks(Some("block35"), "block35_", [1, 10]),
    single("mixed_6a"),
    Blocks(Some("block17"), "block17_", [1, 20]),
    single("mixed_7a"),
    Blocks(Some("block8"), "block8_", [1, 10]),
    single("conv_7b"),
];

const fn blocks(family: Family) -> &'static [Blocks] {
    match family {
        Family::Vgg16 => &VGG16,
        Family::Resnet50 => &RESNET50,
        Family::InceptionV3 => &INCEPTION_V3,
        Family::InceptionResnetV2 => &INCEPTION_RESNET_V2,
    }
}

impl Blocks {
    fn count(&self) -> usize {
        let Self(_, _, [first, last]) = self;
        last - first + 1
    }

    /// How many of them are up to and with what is called `name`.
    fn through(&self, name: &str) -> Option<usize> {
        let Self(all, prefix, [first, last]) = self;
        if *all == Some(name) {
            return Some(self.count());
        }
        let is_it = |number: &usize| !prefix.is_empty() && name == format!("{prefix}{number}");
        let number = (*first..=*last).find(is_it)?;
        Some(number - first + 1)
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(Some(name), "", _) => f.write_str(name),
            Self(None, prefix, [first, last]) => write!(f, "{prefix}{first} to {prefix}{last}"),
            Self(Some(name), prefix, [first, last]) => {
                write!(f, "{name} ({prefix}{first} to {prefix}{last})")
            }
        }
    }
}

impl Freeze {
    /// How many of the backbone's first blocks are frozen, with all that comes before them. `None` if the
    /// backbone has no block of that name.
    #[must_use]
    pub fn blocks(&self, backbone: Backbone) -> Option<usize> {
        let blocks = blocks(backbone.facts().family);
        let name = match self {
            Self::None => return Some(0),
            Self::Backbone => return Some(blocks.iter().map(Blocks::count).sum()),
            Self::Through(name) => name,
        };
        let mut before = 0;
        for blocks in blocks {
            if let Some(count) = blocks.through(name) {
                return Some(before + count);
            }
            before += blocks.count();
        }
        None
    }

    /// Why it is not for this backbone, if it is not.
    pub(super) fn problem(&self, backbone: Backbone) -> Option<String> {
        let names = blocks(backbone.facts().family).iter();
        let names: Vec<String> = names.map(Blocks::to_string).collect();
        let names = names.join(", ");
        self.blocks(backbone).is_none().then(|| {
            format!(
                "must be \"none\", \"backbone\" or a block of {backbone}: {names}; not \"{self}\""
            )
        })
    }

    pub(super) fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Backbone => "backbone",
            Self::Through(name) => name,
        })
    }
}

impl From<String> for Freeze {
    fn from(text: String) -> Self {
        match &text[..] {
            "none" => Self::None,
            "backbone" => Self::Backbone,
            _ => Self::Through(text),
        }
    }
}

impl From<Freeze> for String {
    fn from(freeze: Freeze) -> Self {
        freeze.to_string()
    }
}

impl FromStr for Freeze {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.to_owned().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ExperimentSpec, Preset};

    fn frozen(backbone: Backbone, name: &str) -> Option<usize> {
        Freeze::from(name.to_owned()).blocks(backbone)
    }

    #[test]
    fn blocks_are_counted_by_keras_names() {
        for (backbone, name, count) in [
            (Backbone::Vgg16, "block1", 1),
            (Backbone::Vgg16, "block5", 5),
            (Backbone::Vgg16, "backbone", 5),
            (Backbone::Resnet50, "none", 0),
            (Backbone::Resnet50, "conv1", 1),
            (Backbone::Resnet50, "conv2", 4),
            (Backbone::Resnet50V1_5, "conv3_block1", 5),
            (Backbone::Resnet50, "conv3_block4", 8),
            (Backbone::Resnet50, "conv3", 8),
            (Backbone::Resnet50, "backbone", 17),
            (Backbone::InceptionV3, "mixed0", 1),
            (Backbone::InceptionV3, "mixed10", 11),
            (Backbone::InceptionV3, "backbone", 11),
            (Backbone::InceptionResnetV2, "mixed_5b", 1),
            (Backbone::InceptionResnetV2, "block35_1", 2),
            (Backbone::InceptionResnetV2, "block35", 11),
            (Backbone::InceptionResnetV2, "mixed_6a", 12),
            (Backbone::InceptionResnetV2, "block8_10", 43),
            (Backbone::InceptionResnetV2, "backbone", 44),
        ] {
            assert_eq!(frozen(backbone, name), Some(count), "{backbone} {name}");
        }
        for (backbone, name) in [
            (Backbone::Vgg16, ""),
            (Backbone::Vgg16, "block"),
            (Backbone::Vgg16, "block6"),
            (Backbone::Vgg16, "conv1"),
            (Backbone::Resnet50, "conv1_block1"),
            (Backbone::Resnet50, "conv2_block4"),
            (Backbone::Resnet50, "0"),
            (Backbone::InceptionV3, "mixed01"),
            (Backbone::InceptionV3, "mixed11"),
        ] {
            assert_eq!(frozen(backbone, name), None, "{backbone} {name}");
        }
    }

    #[test]
    fn specs_without_it_stay_as_they_were() {
        let spec = Preset::Fer2013.spec();
        let json = serde_json::to_string(&spec).unwrap();
        assert!(!json.contains("freeze"));
        let read: ExperimentSpec = serde_json::from_str(&json).unwrap();
        assert!(read.runs.iter().all(|run| run.freeze == Freeze::None));
        let mut frozen = spec;
        frozen.runs[0].freeze = "block35".parse().unwrap();
        let json = serde_json::to_string(&frozen).unwrap();
        assert!(json.contains("\"freeze\":\"block35\""), "{json}");
        let read: ExperimentSpec = serde_json::from_str(&json).unwrap();
        assert_eq!(read, frozen);
    }

    #[test]
    fn an_unknown_name_gets_the_known_ones() {
        let problem = |backbone| Freeze::Through("block9".to_owned()).problem(backbone);
        assert_eq!(
            problem(Backbone::Resnet50).unwrap(),
            "must be \"none\", \"backbone\" or a block of resnet50: conv1, conv2 (conv2_block1 to \
             conv2_block3), conv3 (conv3_block1 to conv3_block4), conv4 (conv4_block1 to conv4_block6), \
             conv5 (conv5_block1 to conv5_block3); not \"block9\""
        );
        assert!(
            problem(Backbone::Vgg16)
                .unwrap()
                .contains("a block of vgg16: block1 to block5; not")
        );
    }
}
