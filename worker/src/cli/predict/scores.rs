//! What is printed of the predictions for labelled images.

use std::path::Path;

use quartet_shared::human;
use quartet_shared::report::{
    ClassScores, RunScores, Scores, SplitReport, render_classes, render_runs,
};
use serde::Serialize;

use super::super::shown;

/// The JSON output, in the words of `evaluation.json`.
#[derive(Debug, Serialize)]
struct Output<'a> {
    images: u64,
    correct: u64,
    #[serde(flatten)]
    scores: Scores,
    classes: &'a [String],
    per_class: &'a [ClassScores],
    macro_f1: f64,
    confusion_matrix: &'a [Vec<u64>],
    runs: &'a [RunScores],
}

/// The scores as one line of JSON.
pub(super) fn json(classes: &[String], report: &SplitReport) -> anyhow::Result<String> {
    let output = Output {
        images: report.images,
        correct: report.correct(),
        scores: report.ensemble,
        classes,
        per_class: &report.per_class,
        macro_f1: report.macro_f1,
        confusion_matrix: &report.confusion_matrix,
        runs: &report.runs,
    };
    Ok(serde_json::to_string(&output)? + "\n")
}

/// The scores as tables for people. Those of the runs are left out if there is one run: they are the
/// ensemble's.
pub(super) fn table(folder: &Path, classes: &[String], report: &SplitReport) -> String {
    let mut out = format!(
        "{}: accuracy {} ({} of {} images)\n\n",
        shown(folder),
        human::percentage(report.ensemble.accuracy),
        report.correct(),
        report.images
    );
    if report.runs.len() > 1 {
        render_runs(&mut out, report);
        out.push('\n');
    }
    render_classes(&mut out, classes, report);
    out
}

#[cfg(test)]
mod tests {
    use quartet_shared::dataset::Split;
    use quartet_shared::report::Prediction;
    use serde_json::{Value, json};

    use super::*;

    fn report(runs: &[&str], classes: &[String]) -> SplitReport {
        let probabilities = [
            0.75, 0.25, 0.0, 0.25, 0.75, 0.0, 0.5, 0.25, 0.25, 0.25, 0.75, 0.0,
        ];
        let prediction = |run: &&str| Prediction {
            run: run.parse().unwrap(),
            weight: 1.0,
            probabilities: &probabilities,
        };
        let predictions: Vec<_> = runs.iter().map(prediction).collect();
        SplitReport::compute(Split::Test, classes, &[0, 1, 1, 1], &predictions).unwrap()
    }

    #[test]
    fn scores_are_readable() {
        let classes = ["angry", "ha\nppy", "sad"].map(str::to_owned);
        let folder = Path::new("faces/test");
        let one = report(&["vgg16"], &classes);
        insta::assert_snapshot!(table(folder, &classes, &one), @r"
        faces/test: accuracy 75.00 % (3 of 4 images)

          class       precision  recall      f1  images
          angry          0.5000  1.0000  0.6667       1
          ha ppy         1.0000  0.6667  0.8000       3
          sad            0.0000  0.0000  0.0000       0
          macro mean                     0.4889       4

        Images by class (row) and prediction (column):
                  angry  ha ppy  sad
          angry       1       0    0
          ha ppy      1       2    0
          sad         0       0    0
        ");
        let two = table(folder, &classes, &report(&["vgg16", "wide"], &classes));
        assert!(two.contains("\n  wide       75.00 %  "), "{two}");
    }

    #[test]
    fn json_has_counts_and_scores() {
        let classes = ["angry", "happy", "sad"].map(str::to_owned);
        let text = json(&classes, &report(&["vgg16"], &classes)).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let output: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            [&output["images"], &output["correct"], &output["accuracy"]],
            [&json!(4), &json!(3), &json!(0.75)]
        );
        assert_eq!(
            output["confusion_matrix"],
            json!([[1, 0, 0], [1, 2, 0], [0, 0, 0]])
        );
        assert_eq!(output["per_class"][0]["recall"], json!(1.0));
        assert_eq!(output["runs"][0]["run"], json!("vgg16"));
    }
}
