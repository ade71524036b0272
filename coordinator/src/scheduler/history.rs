//! What the store knows about an experiment when a coordinator starts.

use quartet_shared::ids::RunName;
use quartet_shared::outcome::Outcome;

use super::lease::LastLease;
use super::run::Committed;

/// What the store knows about a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunHistory {
    /// The run.
    pub run: RunName,
    /// The newest lease that was granted.
    pub lease: Option<LastLease>,
    /// How far the run is.
    pub committed: Committed,
    /// The result, once the run has finished.
    pub outcome: Option<Outcome>,
}

/// What the store knows about the experiment. Failure counts are not in it: they begin at zero when a
/// coordinator starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The runs. Runs of the experiment that are missing have not begun; others are ignored.
    pub runs: Vec<RunHistory>,
    /// The newest lease of the evaluation.
    pub evaluation: Option<LastLease>,
    /// Whether the evaluation has finished.
    pub evaluated: bool,
}
