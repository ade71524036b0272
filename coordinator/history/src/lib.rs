//! What became of an experiment, from its store alone: the one source of all that is shown of it.
//!
//! - [`record`]: an experiment as plain data: its runs with their epochs and attempts, its events, its report
//! - [`read`]: reads it from the store, and lists a store's experiments
//! - `attempts`: puts together what records and events say of attempts

mod attempts;
pub mod read;
pub mod record;
#[cfg(test)]
mod tests;

pub use read::{HistoryError, experiments, read};
pub use record::{
    AttemptResult, AttemptSummary, EpochSummary, ExperimentRecord, RunRecord, Standing,
};
