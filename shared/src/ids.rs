//! Names and numbers that identify things, each a type of its own.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::label::{MAX_LABEL, shortened};

/// A text that cannot be a name. Names are also parts of store keys: 1 to 64 characters of
/// `a-z A-Z 0-9 . _ -`, beginning with a letter or a digit.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a valid name: use 1 to 64 letters, digits, '.', '_' or '-', \
     beginning with a letter or a digit"
)]
pub struct InvalidName(pub String);

fn check_name(name: &str) -> Result<(), InvalidName> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let valid = (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(allowed);
    if valid {
        Ok(())
    } else {
        Err(InvalidName(shortened(name, MAX_LABEL)))
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(name: &str) -> Result<Self, InvalidName> {
                check_name(name)?;
                Ok(Self(name.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(name: String) -> Result<Self, InvalidName> {
                check_name(&name)?;
                Ok(Self(name))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type! {
    /// Name of an experiment: the folder of the store that holds all of it.
    ExperimentName
}

impl ExperimentName {
    /// Folders of a store that all experiments share (data sets, initial weights). No experiment has such a
    /// name.
    pub const RESERVED: [&str; 2] = ["datasets", "weights"];
}

name_type! {
    /// Identity of one experiment, chosen at random when it is created. Two experiments of one name, one
    /// after the other at one address, are told apart by it.
    ExperimentId
}
name_type! {
    /// Name of a run: the training of one backbone within an experiment.
    RunName
}
name_type! {
    /// Identity of one worker process, chosen at random when it starts.
    WorkerId
}

impl WorkerId {
    /// The id of a worker whose random number this is.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self(format!("w{number:016x}"))
    }
}

/// The largest number of attempts, epochs, steps or terms that is read from elsewhere: there is room to count
/// on.
pub const MAX_NUMBER: u32 = 1_000_000_000;

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = <$inner>::deserialize(deserializer)?;
                if u64::from(number) > u64::from(MAX_NUMBER) {
                    let name = stringify!($name).to_lowercase();
                    let reason = format_args!("{name} must be at most {MAX_NUMBER}, not {number}");
                    return Err(D::Error::custom(reason));
                }
                Ok(Self(number))
            }
        }

        impl $name {
            /// The number that follows this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number_type! {
    /// How many times a task has been leased, from 1: the fencing token of a lease.
    Attempt, u32
}
number_type! {
    /// A training epoch, from 1.
    Epoch, u32
}
number_type! {
    /// A coordinator's claim on an experiment, from 1; the newest rules.
    Term, u64
}
number_type! {
    /// Which form of an experiment's spec, from 1: every accepted change makes the next one.
    Revision, u32
}

impl Revision {
    /// The form in which an experiment begins.
    pub const FIRST: Self = Self(1);

    /// [`Self::FIRST`], which objects of the store do not name.
    #[must_use]
    pub fn first() -> Self {
        Self::FIRST
    }

    /// Whether this is [`Self::FIRST`].
    #[must_use]
    pub fn is_first(&self) -> bool {
        *self == Self::FIRST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_can_be_counted_on() {
        let last = serde_json::from_str::<Attempt>("1000000000").unwrap();
        assert_eq!(last.next(), Attempt(MAX_NUMBER + 1));
        for number in [u64::from(MAX_NUMBER) + 1, u32::MAX.into(), u64::MAX] {
            let text = number.to_string();
            assert!(serde_json::from_str::<Attempt>(&text).is_err(), "{text}");
            assert!(serde_json::from_str::<Epoch>(&text).is_err(), "{text}");
            let error = serde_json::from_str::<Term>(&text).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("term must be at most 1000000000, not {text}")
            );
        }
    }

    #[test]
    fn names_are_safe_in_keys_and_paths() {
        for good in ["vgg16", "A.b_c-9", "0", &"x".repeat(64)] {
            assert_eq!(good.parse::<RunName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "-x", "a/b", "a b", "é", &"x".repeat(65)] {
            let error = bad.parse::<RunName>().unwrap_err();
            assert_eq!(error, InvalidName(bad.to_owned()));
        }
    }

    #[test]
    fn a_name_is_checked_when_it_is_deserialized() {
        assert!(serde_json::from_str::<RunName>("\"../x\"").is_err());
    }
}
