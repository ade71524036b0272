//! How a worker parts from its coordinator when nothing failed.

use super::Departure;

/// Where a worker goes from its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whither {
    /// To the next coordinator.
    Next,
    /// It exits.
    Exit,
}

/// How a worker has parted from its coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parted {
    /// It looks for the next coordinator, for this reason.
    Onward(String),
    /// Its life has ended.
    Left(Departure),
}
