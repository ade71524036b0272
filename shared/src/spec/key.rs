//! The type of a row in the tables of keys: what reader, writer and validation know of one key.

use std::fmt;
use std::ops::RangeInclusive;

use super::ExperimentSpec;

/// A table of the TOML with its keys, in the order of the written form.
pub(super) struct Table<T: 'static> {
    /// Its name; empty for the top of the file.
    pub(super) name: &'static str,
    /// The comment above it.
    pub(super) help: &'static str,
    pub(super) keys: &'static [Key<T>],
}

impl<T> Table<T> {
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.keys.iter().map(|key| key.name).collect()
    }
}

/// A key of a table that describes a `T`.
pub(super) struct Key<T> {
    pub(super) name: &'static str,
    /// The comment above it.
    pub(super) help: &'static str,
    pub(super) kind: Kind<T>,
    /// What the range does not say: the reason why the value is not valid, if it is not.
    pub(super) check: fn(&T) -> Option<String>,
    pub(super) omitted: Omitted<T>,
}

/// Type, range and place of a value.
pub(super) enum Kind<T> {
    Number(Range, Field<T, f64>),
    Whole(RangeInclusive<u32>, Field<T, u32>),
    /// A whole number that TOML can hold: less than 2^63.
    Seed(Field<T, u64>),
    Flag(Field<T, bool>),
    Text(Text<T>),
}

/// How a value is read from a `T` and changed in it.
pub(super) struct Field<T, V> {
    pub(super) get: fn(&T) -> V,
    pub(super) set: fn(&mut T, V),
}

/// A value that is a text in TOML and has a type of its own in a `T`.
pub(super) struct Text<T> {
    pub(super) get: fn(&T) -> String,
    /// Fails with what is wrong with the text.
    pub(super) set: fn(&mut T, &str) -> Result<(), String>,
}

/// The value of a key that the text leaves out.
pub(super) enum Omitted<T> {
    /// The preset's.
    Preset,
    /// What this function sets. Its experiment still has the preset's runs.
    Derived(fn(&ExperimentSpec, &mut T)),
    /// What this function sets from the experiment's keys. The writer makes such a value a comment.
    Inherited(fn(&ExperimentSpec, &mut T)),
}

impl<T> Key<T> {
    /// A key whose value comes from the preset where it is left out.
    pub(super) const fn new(name: &'static str, help: &'static str, kind: Kind<T>) -> Self {
        Self {
            name,
            help,
            kind,
            check: |_| None,
            omitted: Omitted::Preset,
        }
    }

    pub(super) const fn check(mut self, check: fn(&T) -> Option<String>) -> Self {
        self.check = check;
        self
    }

    pub(super) const fn omitted(mut self, omitted: Omitted<T>) -> Self {
        self.omitted = omitted;
        self
    }

    /// Why the value in `all` is not valid, such as `must be at least 1, not 0`.
    pub(super) fn problem(&self, all: &T) -> Option<String> {
        let out_of_range = match &self.kind {
            Kind::Number(range, field) => range.problem((field.get)(all)),
            Kind::Whole(range, field) => {
                let value = (field.get)(all);
                let (least, most) = (range.start(), range.end());
                must(value >= *least, &format!("at least {least}"), value)
                    .or_else(|| must(value <= *most, &format!("at most {most}"), value))
            }
            Kind::Seed(field) => {
                let value = (field.get)(all);
                must(i64::try_from(value).is_ok(), "less than 2^63", value)
            }
            Kind::Flag(_) | Kind::Text(_) => None,
        };
        out_of_range.or_else(|| (self.check)(all))
    }

    /// The value in `all` as TOML has it.
    pub(super) fn to_toml(&self, all: &T) -> String {
        match &self.kind {
            Kind::Number(_, field) => format!("{:?}", (field.get)(all)),
            Kind::Whole(_, field) => (field.get)(all).to_string(),
            Kind::Seed(field) => (field.get)(all).to_string(),
            Kind::Flag(field) => (field.get)(all).to_string(),
            Kind::Text(text) => toml::Value::from((text.get)(all)).to_string(),
        }
    }
}

/// A range of numbers. NaN is in none.
pub(super) struct Range {
    pub(super) contains: fn(f64) -> bool,
    /// The range in words, after `must be`.
    pub(super) words: &'static str,
}

impl Range {
    pub(super) const FRACTION: Self = Self {
        contains: |value| (0.0..1.0).contains(&value),
        words: "at least 0 and less than 1",
    };
    pub(super) const POSITIVE: Self = Self {
        contains: |value| value > 0.0 && value.is_finite(),
        words: "greater than 0 and finite",
    };
    pub(super) const NOT_NEGATIVE: Self = Self {
        contains: |value| value >= 0.0 && value.is_finite(),
        words: "at least 0 and finite",
    };

    fn problem(&self, value: f64) -> Option<String> {
        must((self.contains)(value), self.words, value)
    }
}

fn must(holds: bool, range: &str, value: impl fmt::Display) -> Option<String> {
    (!holds).then(|| format!("must be {range}, not {value}"))
}
