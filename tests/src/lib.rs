//! Helpers of the tests that run real processes.
//!
//! - [`programs`]: builds the binaries once and finds them
//! - [`processes`]: a coordinator and workers as processes, killed when dropped; [`played_worker`]: a worker
//!   that the test plays
//! - [`simulation`]: a fleet in virtual time
//! - [`fixtures`]: small data sets and experiments; [`job`]: one of each, with a store of its own
//! - [`proxy`]: a network that fails as it is told to
//! - [`s3`], [`stores`], [`small_disk`]: stores that can be looked into, damaged and filled; [`http`] and
//!   [`ports`] serve them
//! - [`harness`]: a small experiment with a fault in it; [`results`]: what came out, compared with an
//!   undisturbed one
//! - `parity`: references of other libraries, for the tests with feature `parity`

pub mod fixtures;
pub mod harness;
pub mod host;
pub mod http;
pub mod job;
#[cfg(feature = "parity")]
pub mod parity;
pub mod played_worker;
pub mod ports;
pub mod processes;
pub mod programs;
pub mod proxy;
pub mod results;
pub mod s3;
pub mod simulation;
pub mod small_disk;
pub mod stores;

use std::fs::File;
use std::io::Write as _;

/// Says that a test is skipped, and why, in the file that `tests/chaos/run` shows at its end.
///
/// # Panics
/// If it cannot be written down: a test must not be skipped silently.
pub fn skip(test: &str, reason: &str) {
    let line = format!("skipped: {test}: {}", reason.replace('\n', " "));
    let mut options = File::options();
    let skipped = s3::prepared().join("skipped");
    let file = options.append(true).create(true).open(skipped);
    let written = file.and_then(|mut file| writeln!(file, "{line}"));
    written.expect("the folder is writable");
}
