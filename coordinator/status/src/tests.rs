//! The program against a real server, and sample snapshots.

use std::time::Duration;

mod program;
mod recorder;
pub(super) mod sample;

/// Longest time between two things that a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) use recorder::Recorder;
