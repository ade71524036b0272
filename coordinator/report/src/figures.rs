//! The figures.
//!
//! - `theme`: colours; `canvas`: sizes, text and the frame of an SVG; `axes`, `lines`: parts of charts
//! - one module for each kind of figure

mod axes;
mod canvas;
mod classes;
mod combined;
mod confusion;
mod curves;
mod lines;
mod members;
mod reliability;
mod theme;

use quartet_history::{ExperimentRecord, RunRecord};
use quartet_shared::ids::RunName;
use quartet_shared::report::{EvaluationReport, SplitReport};

use combined::Metric;

use crate::findings::Findings;

pub(crate) use axes::Scales;
pub(crate) use canvas::wrapped;
pub(crate) use combined::caption;
pub(crate) use members::gain;
pub(crate) use theme::dark;

/// A figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// A name for files, of letters, digits, `.`, `_` and `-`: `accuracy`, `confusion-test`, `curves-vgg16`.
    pub name: String,
    /// What it shows, as a sentence without its full stop. It may contain foreign text.
    pub title: String,
    /// The drawing: an SVG document with a size, so that it stands alone as well as in a page.
    pub svg: String,
}

/// All figures of an experiment: validation accuracy and loss of all runs, the curves of each run, and what
/// evaluation and predictions give.
#[must_use]
pub fn figures(record: &ExperimentRecord, findings: &[Findings]) -> Vec<Figure> {
    let scales = Scales::of(&record.runs);
    let mut figures = vec![accuracy(&record.runs, &scales), loss(&record.runs, &scales)];
    figures.extend(record.runs.iter().map(|run| curve(run, &scales)));
    if let Some(report) = &record.report {
        for split in &report.splits {
            figures.push(members(report, split));
            figures.extend(confusion(split));
            figures.extend(classes(split));
        }
    }
    figures.extend(findings.iter().map(reliability));
    figures
}

/// The curves of one run as SVG, on the axes that all of `runs` share; nothing if it is not among them. This
/// takes about a millisecond.
#[must_use]
pub fn curves(runs: &[RunRecord], run: &RunName) -> Option<String> {
    let run = runs.iter().find(|candidate| candidate.spec.name == *run)?;
    Some(curves::svg(run, &Scales::of(runs)))
}

/// The validation accuracy of all runs as SVG.
#[must_use]
pub fn accuracies(runs: &[RunRecord]) -> String {
    combined::svg(runs, &Scales::of(runs), Metric::Accuracy)
}

/// The validation loss of all runs as SVG.
#[must_use]
pub fn losses(runs: &[RunRecord]) -> String {
    combined::svg(runs, &Scales::of(runs), Metric::Loss)
}

/// The confusion matrices of the ensemble, one for each evaluated split, if it is evaluated.
#[must_use]
pub fn confusion_matrices(record: &ExperimentRecord) -> Vec<Figure> {
    let splits = record.report.iter().flat_map(|report| &report.splits);
    splits.filter_map(confusion).collect()
}

pub(crate) fn accuracy(runs: &[RunRecord], scales: &Scales) -> Figure {
    Figure {
        name: "accuracy".to_owned(),
        title: combined::title(runs, Metric::Accuracy),
        svg: combined::svg(runs, scales, Metric::Accuracy),
    }
}

pub(crate) fn loss(runs: &[RunRecord], scales: &Scales) -> Figure {
    Figure {
        name: "loss".to_owned(),
        title: combined::title(runs, Metric::Loss),
        svg: combined::svg(runs, scales, Metric::Loss),
    }
}

pub(crate) fn curve(run: &RunRecord, scales: &Scales) -> Figure {
    Figure {
        name: format!("curves-{}", run.spec.name),
        title: curves::title(run),
        svg: curves::svg(run, scales),
    }
}

pub(crate) fn members(report: &EvaluationReport, split: &SplitReport) -> Figure {
    Figure {
        name: format!("members-{}", split.split),
        title: members::title(split),
        svg: members::svg(report, split),
    }
}

pub(crate) fn confusion(split: &SplitReport) -> Option<Figure> {
    Some(Figure {
        name: format!("confusion-{}", split.split),
        title: confusion::title(split),
        svg: confusion::svg(split)?,
    })
}

pub(crate) fn classes(split: &SplitReport) -> Option<Figure> {
    Some(Figure {
        name: format!("classes-{}", split.split),
        title: classes::title(split),
        svg: classes::svg(split)?,
    })
}

pub(crate) fn reliability(
    Findings {
        split, calibration, ..
    }: &Findings,
) -> Figure {
    Figure {
        name: format!("reliability-{split}"),
        title: reliability::title(*split, calibration),
        svg: reliability::svg(*split, calibration),
    }
}
