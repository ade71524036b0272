//! Which class a folder's name means.

use std::collections::BTreeSet;

use quartet_shared::dataset::EMOTIONS;

/// The classes of an image folder.
#[derive(Debug)]
pub(super) enum Classes {
    /// FER2013's, by name or number.
    Emotions,
    /// Others, sorted.
    Other(Vec<String>),
}

impl Classes {
    /// Finds the classes from the names of all class folders. The error says what is wrong and what to do.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let names: BTreeSet<&str> = names.collect();
        let strange: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| emotion(name).is_none())
            .collect();
        if strange.is_empty() && !names.is_empty() {
            return Ok(Self::Emotions);
        }
        let is_number = |name: &&str| name.bytes().all(|byte| byte.is_ascii_digit());
        if strange.len() < names.len() || strange.iter().any(is_number) {
            return Err(format!(
                "class folder `{}` is neither an emotion ({}) nor a number from 0 to 6, as others are; \
                 rename or remove it",
                strange.first().copied().unwrap_or_default(),
                EMOTIONS.join(", ")
            ));
        }
        match names.len() {
            0..2 => Err(format!(
                "{} class folders in train, valid and test; at least 2 are needed, one for each class",
                names.len()
            )),
            2..=256 => Ok(Self::Other(names.into_iter().map(str::to_owned).collect())),
            count => Err(format!("{count} class folders; at most 256 are possible")),
        }
    }

    /// The number of a folder whose name was among those given to [`Classes::new`].
    pub(super) fn label(&self, name: &str) -> u8 {
        match self {
            Self::Emotions => emotion(name).unwrap_or_default(),
            Self::Other(names) => {
                // At most 256 names, all of them known.
                names
                    .iter()
                    .position(|known| known == name)
                    .unwrap_or_default() as u8
            }
        }
    }

    /// The names in the order of their numbers.
    pub(super) fn into_names(self) -> Vec<String> {
        match self {
            Self::Emotions => EMOTIONS.map(str::to_owned).to_vec(),
            Self::Other(names) => names,
        }
    }
}

/// The emotion's number in FER2013, from its name or that number.
fn emotion(name: &str) -> Option<u8> {
    (0_u8..).zip(EMOTIONS).find_map(|(number, emotion)| {
        (name.eq_ignore_ascii_case(emotion) || name == number.to_string()).then_some(number)
    })
}
