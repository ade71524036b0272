//! Whether a report is consistent in itself.

use std::collections::BTreeSet;

use super::metrics::{accuracy, macro_f1, per_class};
use super::{EvaluationReport, Scores, SplitReport};

/// The first thing that is wrong with a report, such as `valid: the confusion matrix has 9 images, not 10`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidReport(pub String);

/// Differences of this size come from rounding.
const TOLERANCE: f64 = 1e-9;

impl EvaluationReport {
    /// Checks that counts add up, that scores follow from the confusion matrix, and that no number is NaN.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn validate(&self) -> Result<(), InvalidReport> {
        let distinct = self.classes.iter().collect::<BTreeSet<_>>().len() == self.classes.len();
        require(!self.classes.is_empty() && distinct, || {
            "classes must be there, each once".to_owned()
        })?;
        let runs: BTreeSet<_> = self.members.iter().map(|member| &member.run).collect();
        let distinct = runs.len() == self.members.len();
        require(!runs.is_empty() && distinct, || {
            "members must be there, each once".to_owned()
        })?;
        for member in &self.members {
            let (run, weight, epoch) = (&member.run, member.weight, member.best_epoch);
            require((0.0..=1.0).contains(&weight), || {
                format!("{run} has weight {weight}")
            })?;
            require(epoch.0 >= 1, || format!("{run} has best epoch {epoch}"))?;
        }
        let sum: f64 = self.members.iter().map(|member| member.weight).sum();
        require(close(sum, 1.0), || {
            format!("the weights add up to {sum}, not 1")
        })?;
        let splits: BTreeSet<_> = self.splits.iter().map(|report| report.split).collect();
        let distinct = splits.len() == self.splits.len();
        require(!splits.is_empty() && distinct, || {
            "splits must be there, each once".to_owned()
        })?;
        for report in &self.splits {
            self.validate_split(report)
                .map_err(|error| InvalidReport(format!("{}: {error}", report.split)))?;
        }
        Ok(())
    }

    fn validate_split(&self, report: &SplitReport) -> Result<(), InvalidReport> {
        let matrix = &report.confusion_matrix;
        let n = self.classes.len();
        let square = matrix.len() == n && matrix.iter().all(|row| row.len() == n);
        require(square, || format!("the confusion matrix is not {n} by {n}"))?;
        // Counts of a stranger may overflow; no more than `images` can be right.
        let total = matrix
            .iter()
            .flatten()
            .try_fold(0, |sum: u64, &count| sum.checked_add(count));
        require(total == Some(report.images) && report.images > 0, || {
            let total = total.map_or("too many".to_owned(), |total| total.to_string());
            format!(
                "the confusion matrix has {total} images, not {}",
                report.images
            )
        })?;
        require(scores_valid(report.ensemble), || {
            "the ensemble's scores are no scores".to_owned()
        })?;
        let expected = accuracy(matrix);
        require(close(report.ensemble.accuracy, expected), || {
            format!(
                "accuracy is {}, not the confusion matrix's {expected}",
                report.ensemble.accuracy
            )
        })?;

        let members = self.members.iter().map(|member| &member.run);
        require(
            report.runs.iter().map(|scores| &scores.run).eq(members),
            || "the runs are not the members".to_owned(),
        )?;
        for run in &report.runs {
            require(scores_valid(run.scores), || {
                format!("the scores of {} are no scores", run.run)
            })?;
        }
        let expected = per_class(&self.classes, matrix);
        let same = report.per_class.len() == n
            && report
                .per_class
                .iter()
                .zip(&expected)
                .all(|(found, expected)| {
                    found.class == expected.class
                        && found.support == expected.support
                        && close(found.precision, expected.precision)
                        && close(found.recall, expected.recall)
                        && close(found.f1, expected.f1)
                });
        require(same, || {
            "the scores by class do not follow from the confusion matrix".to_owned()
        })?;
        require(close(report.macro_f1, macro_f1(&expected)), || {
            "macro F1 does not follow from the confusion matrix".to_owned()
        })
    }
}

fn scores_valid(scores: Scores) -> bool {
    (0.0..=1.0).contains(&scores.accuracy) && scores.loss.is_finite() && scores.loss >= 0.0
}

/// False where either is NaN.
pub(super) fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE
}

pub(super) fn require(holds: bool, problem: impl FnOnce() -> String) -> Result<(), InvalidReport> {
    if holds {
        Ok(())
    } else {
        Err(InvalidReport(problem()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::table::tests::example;

    #[test]
    fn a_computed_report_is_valid_and_survives_json() {
        let report = example();
        report.validate().unwrap();
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(
            serde_json::from_str::<EvaluationReport>(&json).unwrap(),
            report
        );
    }

    #[test]
    fn contradictions_are_refused() {
        type Change = fn(&mut EvaluationReport);
        let changes: [(&str, Change); 14] = [
            ("classes must be there, each once", |r| {
                r.classes[1] = r.classes[0].clone()
            }),
            ("members must be there, each once", |r| r.members.clear()),
            ("the weights add up to 0.75, not 1", |r| {
                r.members[0].weight = 0.5
            }),
            ("vgg16 has weight NaN", |r| r.members[0].weight = f64::NAN),
            ("vgg16 has best epoch 0", |r| r.members[0].best_epoch.0 = 0),
            ("splits must be there, each once", |r| {
                r.splits.push(r.splits[0].clone())
            }),
            ("valid: the confusion matrix is not 3 by 3", |r| {
                r.splits[0].confusion_matrix[0].push(0)
            }),
            ("valid: the confusion matrix has 4 images, not 5", |r| {
                r.splits[0].images = 5
            }),
            (
                "valid: the confusion matrix has too many images, not 4",
                |r| {
                    r.splits[0].confusion_matrix[0][0] = u64::MAX;
                },
            ),
            (
                "valid: accuracy is 0.25, not the confusion matrix's 0.5",
                |r| {
                    r.splits[0].ensemble.accuracy = 0.25;
                },
            ),
            ("valid: the scores of resnet50 are no scores", |r| {
                r.splits[0].runs[1].scores.loss = f64::NAN
            }),
            ("valid: the runs are not the members", |r| {
                r.splits[0].runs.reverse()
            }),
            (
                "valid: the scores by class do not follow from the confusion matrix",
                |r| {
                    r.splits[0].per_class[0].f1 = f64::NAN;
                },
            ),
            (
                "valid: macro F1 does not follow from the confusion matrix",
                |r| r.splits[0].macro_f1 = 0.0,
            ),
        ];
        for (message, change) in changes {
            let mut report = example();
            change(&mut report);
            assert_eq!(report.validate(), Err(InvalidReport(message.to_owned())));
        }
    }
}
