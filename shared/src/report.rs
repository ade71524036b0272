//! The evaluation of the ensemble: what `evaluation.json` holds.
//!
//! [`SplitReport::compute`] is the arithmetic, [`EvaluationReport::validate`] checks a report that came from
//! elsewhere in itself, [`EvaluationReport::check_against`] holds it against what is known, [`render`] is the
//! table for people, [`render_runs`] and [`render_classes`] its parts.

mod known;
mod metrics;
mod table;
mod validate;

use serde::{Deserialize, Serialize};

use crate::dataset::Split;
use crate::ids::{Attempt, Epoch, ExperimentName, Revision, RunName};
use crate::spec::Backbone;

pub use known::Known;
pub(crate) use metrics::is_probability;
pub use metrics::{MetricsError, Prediction, argmax, ensemble};
pub use table::{render, render_classes, render_runs};
pub use validate::InvalidReport;

/// The splits that are evaluated, if they have images.
pub const EVALUATED: [Split; 2] = [Split::Valid, Split::Test];

/// The evaluation of an experiment's ensemble.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    /// The experiment.
    pub experiment: ExperimentName,
    /// Names of the classes, in the order of their numbers.
    pub classes: Vec<String>,
    /// The runs of the ensemble, in the order of the spec.
    pub members: Vec<Member>,
    /// The splits that were evaluated.
    pub splits: Vec<SplitReport>,
    /// What the ensemble lacks; absent if it has all runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<Partial>,
    /// The form of the experiment that it is of.
    #[serde(
        default = "Revision::first",
        skip_serializing_if = "Revision::is_first"
    )]
    pub revision: Revision,
}

/// What an ensemble lacks that is not of all runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// The runs that failed for good, in the order of the spec.
    pub missing: Vec<RunName>,
    /// The attempt at the evaluation. The store may have several such reports: a failed run is tried again
    /// when its experiment is started again.
    pub attempt: Attempt,
}

impl EvaluationReport {
    /// The runs of the experiment that are not in the ensemble.
    #[must_use]
    pub fn missing(&self) -> &[RunName] {
        self.partial
            .as_ref()
            .map_or(&[], |partial| &partial.missing)
    }
}

/// A run's part in the ensemble.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The run.
    pub run: RunName,
    /// Its network.
    pub backbone: Backbone,
    /// The epoch whose weights were used.
    pub best_epoch: Epoch,
    /// Its weight; the weights of all members add up to 1.
    pub weight: f64,
}

/// The evaluation on one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitReport {
    /// The split.
    pub split: Split,
    /// How many images it has.
    pub images: u64,
    /// The ensemble's scores: weighted mean of the members' probabilities, then argmax.
    pub ensemble: Scores,
    /// Each member's own scores, in the order of the members.
    pub runs: Vec<RunScores>,
    /// Images by class (row) and by the ensemble's prediction (column).
    pub confusion_matrix: Vec<Vec<u64>>,
    /// The ensemble's scores by class.
    pub per_class: Vec<ClassScores>,
    /// Mean of the classes' F1, each class counted alike.
    pub macro_f1: f64,
}

/// How good predictions are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Fraction of images whose class is predicted.
    pub accuracy: f64,
    /// Mean categorical cross-entropy in nats.
    pub loss: f64,
}

/// A member's own scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunScores {
    /// The run.
    pub run: RunName,
    /// Its scores.
    #[serde(flatten)]
    pub scores: Scores,
}

/// The ensemble's scores for one class; a fraction whose denominator is 0 counts as 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// The class.
    pub class: String,
    /// Of the images predicted as this class, the fraction that are.
    pub precision: f64,
    /// Of the images of this class, the fraction predicted so.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Images of this class.
    pub support: u64,
}

/// Ensemble weights scaled so that they add up to 1.
#[must_use]
pub fn normalised(weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}
