//! The program against a real server, and sample snapshots.

mod program;
pub(super) mod sample;
