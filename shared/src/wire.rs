//! Conversions between the protocol's messages and the types of this crate: `From` on the way out, `TryFrom`
//! on the way in, which checks what came. Snapshots, a type of `quartet-status`, are converted there
//! (`snapshot/wire.rs`).

mod assignment;
mod checkpoint;
mod gpu;
mod progress;
mod provenance;
mod state;
mod task;

use quartet_proto::v1;

use crate::ids::{Epoch, InvalidName, MAX_NUMBER};
use crate::progress::Progress;
use crate::task::LeaseId;

/// Why a message does not make sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A name that cannot be one.
    #[error("{field}: {error}")]
    Name {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        error: InvalidName,
    },
    /// An enum without a value, or with one that this version does not know.
    #[error("{field} has the unknown value {value}")]
    Enum {
        /// The field.
        field: &'static str,
        /// Its number.
        value: i32,
    },
    /// A number out of its range.
    #[error("{field} must be {range}, not {value}")]
    Range {
        /// The field.
        field: &'static str,
        /// The range in words.
        range: &'static str,
        /// The value.
        value: f64,
    },
    /// JSON that cannot be read, or whose values are out of their ranges.
    #[error("{field}: {error}")]
    Json {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        error: String,
    },
    /// A checksum that has not 32 bytes.
    #[error("{field} has {found} bytes, not 32")]
    Checksum {
        /// The field.
        field: &'static str,
        /// Bytes found.
        found: usize,
    },
}

/// The value of a field that must be there, converted.
///
/// # Errors
/// It is missing, or it cannot be converted.
pub fn required<M, T>(message: Option<M>, field: &'static str) -> Result<T, WireError>
where
    T: TryFrom<M>,
    WireError: From<T::Error>,
{
    let message = message.ok_or(WireError::Missing(field))?;
    Ok(T::try_from(message)?)
}

impl From<std::convert::Infallible> for WireError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// A trained epoch: they count from 1.
///
/// # Errors
/// It is 0, or more than can be trained.
pub fn epoch(number: u32, field: &'static str) -> Result<Epoch, WireError> {
    if number == 0 {
        return Err(WireError::Range {
            field,
            range: "at least 1",
            value: 0.0,
        });
    }
    count(number, field).map(Epoch)
}

/// A number of attempts, epochs or steps that more can be added to.
fn count(number: u32, field: &'static str) -> Result<u32, WireError> {
    if number <= MAX_NUMBER {
        return Ok(number);
    }
    Err(WireError::Range {
        field,
        range: "at most 1000000000",
        value: number.into(),
    })
}

/// A progress message with the lease that it is under.
#[must_use]
pub fn progress_message(lease: &LeaseId, progress: &Progress) -> v1::Progress {
    v1::Progress {
        lease: Some(lease.clone().into()),
        ..(*progress).into()
    }
}

/// The lease and the progress of a message.
///
/// # Errors
/// The lease is missing, or a value makes no sense.
pub fn lease_and_progress(mut message: v1::Progress) -> Result<(LeaseId, Progress), WireError> {
    let lease = required(message.lease.take(), "lease")?;
    Ok((lease, message.try_into()?))
}

fn name<T>(name: String, field: &'static str) -> Result<T, WireError>
where
    T: TryFrom<String, Error = InvalidName>,
{
    name.try_into()
        .map_err(|error| WireError::Name { field, error })
}

/// A fraction of 1; NaN is none.
fn fraction(value: f64, field: &'static str) -> Result<f64, WireError> {
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    Err(WireError::Range {
        field,
        range: "from 0 to 1",
        value,
    })
}

/// A finite number that is not negative.
fn amount(value: f64, field: &'static str) -> Result<f64, WireError> {
    if value >= 0.0 && value.is_finite() {
        return Ok(value);
    }
    Err(WireError::Range {
        field,
        range: "at least 0 and finite",
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Blob;

    #[test]
    fn a_required_field_is_named_where_it_is_missing() {
        let error = required::<v1::Blob, Blob>(None, "weights").unwrap_err();
        assert_eq!(error.to_string(), "weights is missing");
    }

    #[test]
    fn epochs_count_from_one() {
        assert_eq!(epoch(1, "epoch"), Ok(Epoch(1)));
        assert_eq!(
            epoch(0, "epoch").unwrap_err().to_string(),
            "epoch must be at least 1, not 0"
        );
    }

    #[test]
    fn nan_is_neither_fraction_nor_amount() {
        assert!(fraction(f64::NAN, "x").is_err());
        assert!(amount(f64::NAN, "x").is_err());
        assert!(amount(f64::INFINITY, "x").is_err());
        assert!(fraction(-0.1, "x").is_err());
        assert!(fraction(1.1, "x").is_err());
    }
}
