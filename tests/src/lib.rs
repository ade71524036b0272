//! Helpers of the tests that run real processes.
//!
//! - [`programs`]: builds the binaries once and finds them
//! - [`fleet`]: a coordinator and workers as processes, killed when dropped
//! - `parity`: references of other libraries, for the tests with feature `parity`
//! - [`fixtures`]: small data sets and experiments

pub mod fixtures;
pub mod fleet;
#[cfg(feature = "parity")]
pub mod parity;
pub mod programs;
