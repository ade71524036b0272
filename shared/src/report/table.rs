//! The report as plain text.

use std::fmt::Write as _;

use super::{EvaluationReport, SplitReport};
use crate::dataset::Split;
use crate::human::{self, align};
use crate::ids::RunName;
use crate::label::one_line;

/// The report as a table for people, without colour, every line ended.
#[must_use]
pub fn render(report: &EvaluationReport) -> String {
    let mut out = format!(
        "Evaluation of {}: ensemble of {}\n\n",
        report.experiment,
        match report.members.len() {
            1 => "1 run".to_owned(),
            runs => format!("{runs} runs"),
        }
    );
    let members = report.members.iter().map(|member| {
        let weight = format!("{:.3}", member.weight);
        vec![
            member.run.to_string(),
            member.backbone.to_string(),
            weight,
            member.best_epoch.to_string(),
        ]
    });
    align(
        &mut out,
        2,
        &["run", "backbone", "weight", "best epoch"],
        members,
    );
    if let missing @ [_, ..] = report.missing() {
        let names: Vec<_> = missing.iter().map(RunName::as_str).collect();
        writeln!(out, "\nmissing, because they failed: {}", names.join(", "))
            .expect("a String takes all");
    }
    for split in &report.splits {
        render_split(&mut out, &report.classes, split);
    }
    out
}

fn render_split(out: &mut String, classes: &[String], report: &SplitReport) {
    let title = match report.split {
        Split::Train => "Training",
        Split::Valid => "Validation",
        Split::Test => "Test",
    };
    let accuracy = human::percentage(report.ensemble.accuracy);
    writeln!(
        out,
        "\n{title}: {} images, ensemble accuracy {accuracy}\n",
        report.images
    )
    .expect("a String takes all");
    render_runs(out, report);
    out.push('\n');
    render_classes(out, classes, report);
}

/// Appends the table of the ensemble's scores and each run's.
pub fn render_runs(out: &mut String, report: &SplitReport) {
    let row = |name: &str, scores: super::Scores| {
        vec![
            name.to_owned(),
            human::percentage(scores.accuracy),
            format!("{:.4}", scores.loss),
        ]
    };
    let ensemble = std::iter::once(row("ensemble", report.ensemble));
    let runs = report
        .runs
        .iter()
        .map(|run| row(run.run.as_str(), run.scores));
    align(out, 1, &["run", "accuracy", "loss"], ensemble.chain(runs));
}

/// Appends the table of each class's scores and that of the confusion matrix.
pub fn render_classes(out: &mut String, classes: &[String], report: &SplitReport) {
    let per_class = report.per_class.iter().map(|class| {
        let fractions =
            [class.precision, class.recall, class.f1].map(|value| format!("{value:.4}"));
        let [precision, recall, f1] = fractions;
        vec![
            one_line(&class.class).into_owned(),
            precision,
            recall,
            f1,
            class.support.to_string(),
        ]
    });
    let mean = [
        String::from("macro mean"),
        String::new(),
        String::new(),
        format!("{:.4}", report.macro_f1),
    ];
    let mean = std::iter::once([mean.to_vec(), vec![report.images.to_string()]].concat());
    align(
        out,
        1,
        &["class", "precision", "recall", "f1", "images"],
        per_class.chain(mean),
    );

    out.push_str("\nImages by class (row) and prediction (column):\n");
    let classes: Vec<_> = classes.iter().map(|class| one_line(class)).collect();
    let head: Vec<&str> = std::iter::once("")
        .chain(classes.iter().map(|class| &**class))
        .collect();
    let rows = classes
        .iter()
        .zip(&report.confusion_matrix)
        .map(|(class, counts)| {
            std::iter::once(class.to_string())
                .chain(counts.iter().map(u64::to_string))
                .collect()
        });
    align(out, 1, &head, rows);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ids::Epoch;
    use crate::report::{Member, Prediction};
    use crate::spec::Backbone;

    /// Two runs, three classes, four images.
    pub(in crate::report) fn example() -> EvaluationReport {
        let a = [0.7, 0.2, 0.1, 0.6, 0.3, 0.1, 0.1, 0.8, 0.1, 0.3, 0.3, 0.4];
        let b = [0.2, 0.7, 0.1, 0.1, 0.8, 0.1, 0.1, 0.8, 0.1, 0.4, 0.5, 0.1];
        let classes = ["angry", "happy", "neutral"].map(str::to_owned).to_vec();
        let member = |backbone: Backbone, best_epoch, weight| Member {
            run: backbone.as_str().parse().unwrap(),
            backbone,
            best_epoch: Epoch(best_epoch),
            weight,
        };
        let members = vec![
            member(Backbone::Vgg16, 41, 0.75),
            member(Backbone::Resnet50, 7, 0.25),
        ];
        let predictions = members
            .iter()
            .zip([&a, &b])
            .map(|(member, probabilities)| Prediction {
                run: member.run.clone(),
                weight: member.weight,
                probabilities,
            });
        let predictions: Vec<_> = predictions.collect();
        let split = |split, labels: &[u8]| {
            SplitReport::compute(split, &classes, labels, &predictions).unwrap()
        };
        let splits = vec![
            split(Split::Valid, &[0, 1, 1, 2]),
            split(Split::Test, &[0, 0, 1, 1]),
        ];
        EvaluationReport {
            experiment: "demo".parse().unwrap(),
            classes,
            members,
            splits,
            partial: None,
            revision: crate::ids::Revision::FIRST,
        }
    }

    #[test]
    fn a_report_is_readable() {
        insta::assert_snapshot!(render(&example()), @r"
        Evaluation of demo: ensemble of 2 runs

          run       backbone  weight  best epoch
          vgg16     vgg16      0.750          41
          resnet50  resnet50   0.250           7

        Validation: 4 images, ensemble accuracy 50.00 %

          run       accuracy    loss
          ensemble   50.00 %  0.6890
          vgg16      75.00 %  0.6750
          resnet50   50.00 %  1.0896

          class       precision  recall      f1  images
          angry          0.5000  1.0000  0.6667       1
          happy          0.5000  0.5000  0.5000       2
          neutral        0.0000  0.0000  0.0000       1
          macro mean                     0.3889       4

        Images by class (row) and prediction (column):
                   angry  happy  neutral
          angry        1      0        0
          happy        1      1        0
          neutral      0      1        0

        Test: 4 images, ensemble accuracy 100.00 %

          run       accuracy    loss
          ensemble  100.00 %  0.6427
          vgg16      75.00 %  0.5737
          resnet50   50.00 %  1.2071

          class       precision  recall      f1  images
          angry          1.0000  1.0000  1.0000       2
          happy          1.0000  1.0000  1.0000       2
          neutral        0.0000  0.0000  0.0000       0
          macro mean                     0.6667       4

        Images by class (row) and prediction (column):
                   angry  happy  neutral
          angry        2      0        0
          happy        0      2        0
          neutral      0      0        0
        ");
    }
}
