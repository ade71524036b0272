//! How a worker parts from its coordinator when nothing failed.

use super::Departure;

/// Where a worker goes from its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Destination {
    /// To the next coordinator.
    NextCoordinator,
    /// It exits.
    Exit,
}

/// How a worker has parted from its coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parted {
    /// It stays, and looks for the next coordinator, for this reason.
    Stays(String),
    /// Its life has ended.
    Left(Departure),
}
