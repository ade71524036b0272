//! The keys of what evaluations give.

use quartet_shared::ids::{Attempt, Revision};
use quartet_shared::report::EvaluationReport;

use super::Layout;

/// The folder of what an evaluation gives.
#[derive(Clone, Debug)]
pub struct Results(String);

impl Results {
    /// The ensemble's evaluation.
    #[must_use]
    pub fn evaluation(&self) -> String {
        format!("{}/evaluation.json", self.0)
    }

    /// The same as a table for people.
    #[must_use]
    pub fn evaluation_text(&self) -> String {
        format!("{}/evaluation.txt", self.0)
    }

    /// What each member and the ensemble say of every evaluated image, as a table.
    #[must_use]
    pub fn predictions_table(&self) -> String {
        format!("{}/predictions.csv", self.0)
    }

    /// The report of the experiment, for people.
    #[must_use]
    pub fn report(&self) -> String {
        format!("{}/report.html", self.0)
    }
}

impl Results {
    /// All of them; the evaluation, by which it is known that there are any, is the last.
    #[must_use]
    pub fn all(&self) -> [String; 4] {
        [
            self.report(),
            self.predictions_table(),
            self.evaluation_text(),
            self.evaluation(),
        ]
    }
}

impl Layout {
    /// What an evaluation gives: of all runs, or of those that had finished at an attempt.
    #[must_use]
    pub fn results(&self, partial: Option<Attempt>) -> Results {
        Results(match partial {
            None => self.experiment.to_string(),
            Some(attempt) => format!("{}/{:04}", self.partial_results(), attempt.0),
        })
    }

    /// What this evaluation gives.
    #[must_use]
    pub fn results_of(&self, report: &EvaluationReport) -> Results {
        self.results(report.partial.as_ref().map(|partial| partial.attempt))
    }

    /// The folder of the evaluations that lack runs.
    #[must_use]
    pub fn partial_results(&self) -> String {
        format!("{}/partial", self.experiment)
    }

    /// What the evaluation of all runs of an earlier form gave.
    #[must_use]
    pub fn earlier_results(&self, revision: Revision) -> Results {
        Results(format!("{}/earlier/{:04}", self.experiment, revision.0))
    }
}
