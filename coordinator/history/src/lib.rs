//! What became of an experiment, from its store alone: the one source of all that is shown of it.
//!
//! - [`record`]: an experiment as plain data: its runs with their epochs and attempts, its events, its report
//! - [`read`]: reads it from the store, and lists a store's experiments
//! - [`predictions`]: what the members of an evaluated ensemble say of every image
//! - [`update`]: how a record goes on while the experiment is coordinated
//! - `attempts`: what records and events say of attempts

mod attempts;
pub mod predictions;
pub mod read;
pub mod record;
#[cfg(test)]
mod tests;
pub mod update;

pub use read::{HistoryError, experiments, read, read_before, read_epochs};
pub use record::{
    AttemptResult, AttemptSummary, EpochSummary, ExperimentRecord, RunRecord, Standing,
};
pub use update::Update;
