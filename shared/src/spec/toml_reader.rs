//! Reading of TOML tables with errors for people: file, key, place and line.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::{Key, Kind};
use super::validate::{InvalidSpec, MAX_RUNS};
use crate::label::{MAX_LABEL, MAX_REASON, shortened};

/// Why a text is not an experiment. Every message begins with the name of the file, and repeats at most the
/// beginning of a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The text is not TOML.
    #[error("{file}: {message} (line {line})", message = shortened(message, MAX_REASON))]
    Syntax {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A key that means nothing here.
    #[error(
        "{file}: unknown key \"{key}\" {place} (line {line}){hint}",
        key = shortened(key, MAX_LABEL), place = shortened(place, MAX_LABEL)
    )]
    UnknownKey {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// Where it stands, such as `in [[run]] "vgg16"`.
        place: String,
        /// Line, from 1.
        line: usize,
        /// `, did you mean "..."?`, or nothing where no known key is near.
        hint: String,
    },
    /// A key that must be there is not.
    #[error("{file}: {key} is missing {place} (line {line})", place = shortened(place, MAX_LABEL))]
    MissingKey {
        /// The file.
        file: String,
        /// The key.
        key: &'static str,
        /// Where it should stand.
        place: String,
        /// Line of the table, from 1.
        line: usize,
    },
    /// A value of the wrong type, or a text that is none of the known ones.
    #[error(
        "{file}: {key} {place} {reason} (line {line})",
        place = shortened(place, MAX_LABEL), reason = shortened(reason, MAX_REASON)
    )]
    Value {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// Where it stands.
        place: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A single setting that cannot be understood.
    #[error("{setting}: {reason}", setting = shortened(setting, MAX_REASON), reason = shortened(reason, MAX_REASON))]
    Setting {
        /// The setting, as it was given.
        setting: String,
        /// What is wrong.
        reason: String,
    },
    /// There are more tables of runs than an experiment takes.
    #[error("{file} has {count} [[run]] tables; an experiment takes at most {MAX_RUNS}")]
    TooManyRuns {
        /// The file.
        file: String,
        /// How many there are.
        count: usize,
    },
    /// All values can be read, and one of them is out of its range.
    #[error("{file}: {error}")]
    Invalid {
        /// The file.
        file: String,
        /// What is wrong.
        error: InvalidSpec,
    },
}

/// The text with its name, for positions.
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    fn line(&self, at: &Range<usize>) -> usize {
        1 + self
            .text
            .bytes()
            .take(at.start)
            .filter(|&byte| byte == b'\n')
            .count()
    }

    pub(super) fn syntax(&self, error: &toml::de::Error) -> SpecError {
        SpecError::Syntax {
            file: self.file.to_owned(),
            line: self.line(&error.span().unwrap_or(0..0)),
            message: error.message().to_owned(),
        }
    }
}

/// One table whose keys are known.
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    place: String,
}

impl<'a> Section<'a> {
    /// Takes a table, unless it has a key that is not `known`.
    pub(super) fn new(
        source: &'a Source<'a>,
        table: &'a DeTable<'a>,
        span: Range<usize>,
        place: String,
        known: &[&str],
    ) -> Result<Self, SpecError> {
        let first_unknown = table
            .keys()
            .filter(|key| !known.contains(&key.get_ref().as_ref()))
            .min_by_key(|key| key.span().start);
        match first_unknown {
            Some(key) => Err(SpecError::UnknownKey {
                file: source.file.to_owned(),
                key: key.get_ref().to_string(),
                line: source.line(&key.span()),
                hint: hint(key.get_ref(), known),
                place,
            }),
            None => Ok(Self {
                source,
                table,
                span,
                place,
            }),
        }
    }

    pub(super) fn missing(&self, key: &'static str) -> SpecError {
        SpecError::MissingKey {
            file: self.source.file.to_owned(),
            key,
            place: self.place.clone(),
            line: self.source.line(&self.span),
        }
    }

    /// The value of `key` as `read` takes it, `None` where it is left out.
    pub(super) fn get<T>(
        &self,
        key: &str,
        read: impl FnOnce(&'a Spanned<DeValue<'a>>) -> Result<T, String>,
    ) -> Result<Option<T>, SpecError> {
        let Some(value) = self.table.get(key) else {
            return Ok(None);
        };
        let error = |reason| SpecError::Value {
            file: self.source.file.to_owned(),
            key: key.to_owned(),
            place: self.place.clone(),
            line: self.source.line(&value.span()),
            reason,
        };
        read(value).map(Some).map_err(error)
    }

    /// Takes the value of `key` into `all`; says whether the table has the key.
    pub(super) fn read<T>(&self, key: &Key<T>, all: &mut T) -> Result<bool, SpecError> {
        let read = |value: &Spanned<DeValue<'_>>| {
            match &key.kind {
                Kind::Number(_, field) => (field.set)(all, number(value)?),
                Kind::Whole(_, field) => {
                    let number = integer(value)?;
                    let range = || format!("must be from 0 to {}, not {number}", u32::MAX);
                    (field.set)(all, u32::try_from(number).map_err(|_| range())?);
                }
                Kind::Seed(field) => {
                    let number = integer(value)?;
                    let range = || format!("must be at least 0, not {number}");
                    (field.set)(all, u64::try_from(number).map_err(|_| range())?);
                }
                Kind::Flag(field) => {
                    let flag = value.get_ref().as_bool();
                    (field.set)(all, flag.ok_or_else(|| expected("true or false", value))?);
                }
                Kind::Text(field) => {
                    let text = value.get_ref().as_str();
                    let text = text.ok_or_else(|| expected("a text in quotes", value))?;
                    (field.set)(all, text).map_err(|reason| format!("is not valid: {reason}"))?;
                }
            }
            Ok(())
        };
        Ok(self.get(key.name, read)?.is_some())
    }
}

pub(super) fn expected(what: &str, value: &Spanned<DeValue<'_>>) -> String {
    let found = match value.get_ref() {
        DeValue::String(text) => format!("the text {text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    };
    format!("must be {what}, not {found}")
}

fn number(value: &Spanned<DeValue<'_>>) -> Result<f64, String> {
    match value.get_ref() {
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .map_err(|_| expected("a number", value)),
        DeValue::Integer(_) => Ok(integer(value)? as f64),
        _ => Err(expected("a number", value)),
    }
}

fn integer(value: &Spanned<DeValue<'_>>) -> Result<i64, String> {
    let DeValue::Integer(number) = value.get_ref() else {
        return Err(expected("a whole number", value));
    };
    i64::from_str_radix(number.as_str(), number.radix())
        .map_err(|_| format!("must be less than 2^63, not {number}"))
}

/// Jaro-Winkler similarity from which on a key is taken for a slip of the finger.
const NEAR: f64 = 0.8;

fn hint(key: &str, known: &[&str]) -> String {
    let key = key.to_lowercase().replace('-', "_");
    let similarity = |candidate: &str| {
        let is_part = key.len() >= 4 && candidate.contains(&key);
        if is_part {
            1.0
        } else {
            strsim::jaro_winkler(&key, candidate)
        }
    };
    known
        .iter()
        .map(|&candidate| (similarity(candidate), candidate))
        .filter(|&(similarity, _)| similarity >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, nearest)| {
            format!(", did you mean \"{nearest}\"?")
        })
}
