//! An experiment in a store, as one argument: `STORE/NAME`.

use std::str::FromStr;

use quartet_shared::ids::{ExperimentName, InvalidName};

/// An experiment in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A directory, or `s3://bucket/prefix`.
    pub store: String,
    /// The experiment.
    pub experiment: ExperimentName,
}

/// An argument that names no experiment in a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlace {
    /// It names a bucket without an experiment in it.
    #[error("{0} names no experiment; use STORE/NAME, such as s3://bucket/prefix/fer2013")]
    NoName(String),
    /// Its last part is no name.
    #[error("{place} names no experiment: {reason}; use STORE/NAME, such as runs/fer2013")]
    Name {
        /// The argument.
        place: String,
        /// What is wrong with the name.
        reason: InvalidName,
    },
}

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(place: &str) -> Result<Self, InvalidPlace> {
        let trimmed = place.trim_end_matches('/');
        let (store, name) = match trimmed.rsplit_once('/') {
            // The bucket itself.
            Some((scheme, _)) if scheme.ends_with(":/") => {
                return Err(InvalidPlace::NoName(place.to_owned()));
            }
            Some(("", name)) => ("/", name),
            Some((store, name)) => (store, name),
            None => (".", trimmed),
        };
        let experiment = name.parse().map_err(|reason| InvalidPlace::Name {
            place: place.to_owned(),
            reason,
        })?;
        let store = store.to_owned();
        Ok(Self { store, experiment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_is_the_experiment() {
        for (text, store, name) in [
            ("runs/fer2013", "runs", "fer2013"),
            ("./runs/fer2013/", "./runs", "fer2013"),
            ("fer2013", ".", "fer2013"),
            ("/fer2013", "/", "fer2013"),
            ("s3://bucket/fer2013", "s3://bucket", "fer2013"),
            ("s3://bucket/a/b/fer2013/", "s3://bucket/a/b", "fer2013"),
        ] {
            let place: Place = text.parse().unwrap();
            assert_eq!(
                (&place.store[..], place.experiment.as_str()),
                (store, name),
                "{text}"
            );
        }
    }

    #[test]
    fn what_names_none_is_refused_with_a_way_out() {
        for text in [
            "s3://bucket",
            "s3://bucket/",
            "",
            "/",
            "runs/..",
            "runs/a b",
        ] {
            let error = text.parse::<Place>().unwrap_err().to_string();
            assert!(error.contains("use STORE/NAME"), "{text}: {error}");
        }
    }
}
