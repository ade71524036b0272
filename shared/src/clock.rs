//! The time of day, for records that people read. Nothing is decided by it.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The latest moment that is read from elsewhere: the end of the year 9999, in milliseconds.
const LATEST: u64 = 253_402_300_799_999;

/// Seconds since the Unix epoch.
#[must_use]
pub fn unix_seconds() -> u64 {
    Timestamp::now().0 / 1000
}

/// A moment, in milliseconds since the Unix epoch. As text it is RFC 3339 in UTC:
/// `2026-11-26T21:18:55.042Z`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(pub u64);

/// A text that is no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time such as 2026-11-26T21:18:55Z")]
pub struct InvalidTimestamp(String);

impl Timestamp {
    /// Now, by this machine's clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(
            since
                .map_or(0, |since| since.as_millis() as u64)
                .min(LATEST),
        )
    }

    /// So many milliseconds after the Unix epoch, as somebody else says.
    #[must_use]
    pub fn at(millis: u64) -> Self {
        Self(millis.min(LATEST))
    }

    /// So many seconds after the Unix epoch.
    #[must_use]
    pub fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000).min(LATEST))
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The time from `earlier` to here; zero if it is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// To the minute, for tables: `2026-11-26 21:18`.
    #[must_use]
    pub fn minute(self) -> String {
        self.to_string()[..16].replace('T', " ")
    }

    /// The time of day, in UTC as everywhere: `21:18:55`.
    #[must_use]
    pub fn time_of_day(self) -> String {
        self.to_string()[11..19].to_owned()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_millis(self.0.min(LATEST));
        f.pad(&humantime::format_rfc3339_millis(time).to_string())
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let time = humantime::parse_rfc3339(text).ok();
        let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let invalid = || InvalidTimestamp(crate::label::shortened(text, crate::label::MAX_LABEL));
        let millis = since.ok_or_else(invalid)?.as_millis() as u64;
        Ok(Self(millis.min(LATEST)))
    }
}

impl TryFrom<String> for Timestamp {
    type Error = InvalidTimestamp;

    fn try_from(text: String) -> Result<Self, InvalidTimestamp> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_text_that_people_read() {
        let time = Timestamp(1_795_727_935_042);
        assert_eq!(time.to_string(), "2026-11-26T21:18:55.042Z");
        assert_eq!(time.minute(), "2026-11-26 21:18");
        assert_eq!(time.time_of_day(), "21:18:55");
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
        assert_eq!(
            "2026-11-26T21:18:55Z".parse(),
            Ok(Timestamp(1_795_727_935_000))
        );
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "yesterday",
            "1969-12-31T23:59:59Z",
            "10000-01-01T00:00:00Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
        // One that was made here is always readable.
        let latest = Timestamp(u64::MAX).to_string();
        assert_eq!(latest, "9999-12-31T23:59:59.999Z");
        assert_eq!(latest.parse::<Timestamp>(), Ok(Timestamp(LATEST)));
    }
}
