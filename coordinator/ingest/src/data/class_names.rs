//! Names for classes that have numbers (`--class-names`).

use std::fmt;
use std::str::FromStr;

use quartet_shared::expression;
use quartet_shared::label;

/// Most classes: a label is one byte.
const MAX_CLASSES: usize = 256;

/// The names of classes in the order of their numbers; expressions have their standard names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassNames(Vec<String>);

impl fmt::Display for ClassNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// A text that is no list of class names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClassNames {
    /// Too few or too many.
    #[error(
        "use 2 to {MAX_CLASSES} names with commas between them, in the order of the numbers, such as \
         neutral,happy,sad"
    )]
    Count,
    /// A name that cannot be shown.
    #[error("class {number} (from 1): {problem}")]
    Name {
        /// Its place in the list, from 1.
        number: usize,
        /// What is wrong.
        problem: label::InvalidLabel,
    },
    /// Two numbers have one name.
    #[error("{0} is there twice; each class has its own name")]
    Twice(String),
}

impl ClassNames {
    /// The names, at least two, each once.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for ClassNames {
    type Err = InvalidClassNames;

    fn from_str(text: &str) -> Result<Self, InvalidClassNames> {
        let mut names = Vec::new();
        for (name, number) in text.split(',').map(str::trim).zip(1..) {
            label::check(name).map_err(|problem| InvalidClassNames::Name { number, problem })?;
            let name = expression::standard_name(name).unwrap_or(name).to_owned();
            if names.contains(&name) {
                return Err(InvalidClassNames::Twice(name));
            }
            names.push(name);
            if names.len() > MAX_CLASSES {
                return Err(InvalidClassNames::Count);
            }
        }
        match names.len() {
            0..2 => Err(InvalidClassNames::Count),
            _ => Ok(Self(names)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_standard_and_distinct() {
        let names: ClassNames = "neutral, Happiness,cat".parse().expect("names");
        assert_eq!(names.as_slice(), ["neutral", "happy", "cat"]);
        let many: Vec<String> = (0..257).map(|number| number.to_string()).collect();
        assert!(many[..256].join(",").parse::<ClassNames>().is_ok());
        for (text, message) in [
            (
                "",
                "class 1 (from 1): use 1 to 128 printable characters, not none",
            ),
            (
                "a,,b",
                "class 2 (from 1): use 1 to 128 printable characters, not none",
            ),
            (
                "anger,angry",
                "angry is there twice; each class has its own name",
            ),
            ("a", "use 2 to 256 names with commas between them"),
            (
                &many.join(","),
                "use 2 to 256 names with commas between them",
            ),
        ] {
            let error = text.parse::<ClassNames>().expect_err(text).to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
