//! Helpers of the tests that run real processes.
//!
//! - [`programs`]: builds the binaries once and finds them
//! - [`fleet`]: a coordinator and workers as processes, killed when dropped
//! - [`fixtures`]: small data sets and experiments

pub mod fixtures;
pub mod fleet;
pub mod programs;
