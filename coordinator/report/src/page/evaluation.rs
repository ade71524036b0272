//! What the evaluation and the predictions say.

use quartet_history::ExperimentRecord;
use quartet_shared::report::SplitReport;

use crate::calibration::{BINS, Calibration};
use crate::figures::{self, Figure};
use crate::findings::{Findings, Mistake, Picture};
use crate::text::{clean, count, loss, percent, percentage, plural, score};

/// Longest name of a class, in characters.
const NAME: usize = 64;

/// The evaluation on a split.
pub(super) struct SplitView {
    pub(super) name: String,
    pub(super) images: String,
    pub(super) gain: Option<String>,
    pub(super) members: Figure,
    pub(super) confusion: Option<Figure>,
    pub(super) classes: Option<Figure>,
    pub(super) rows: Vec<ClassRow>,
    pub(super) scores: Vec<ScoreRow>,
    pub(super) macro_f1: String,
}

/// The scores of the ensemble or of a member.
pub(super) struct ScoreRow {
    pub(super) name: String,
    pub(super) weight: String,
    pub(super) accuracy: String,
    pub(super) loss: String,
}

/// A class and what its images are taken for.
pub(super) struct ClassRow {
    pub(super) class: String,
    pub(super) counts: Vec<String>,
    pub(super) precision: String,
    pub(super) recall: String,
    pub(super) f1: String,
    pub(super) support: String,
}

/// What the predictions of a split say.
pub(super) struct PredictionView {
    pub(super) split: String,
    pub(super) bins: usize,
    pub(super) expected_error: String,
    pub(super) confidence: String,
    pub(super) accuracy: String,
    /// Whether probabilities are too high or too low, as the end of a sentence.
    pub(super) tendency: &'static str,
    pub(super) reliability: Figure,
    pub(super) mistakes: Vec<MistakeView>,
    /// How many mistakes there are.
    pub(super) mistaken: String,
}

/// A wrong prediction.
pub(super) struct MistakeView {
    pub(super) picture: Option<String>,
    pub(super) image: u64,
    pub(super) label: String,
    pub(super) predicted: String,
    pub(super) probability: String,
}

pub(super) fn splits(record: &ExperimentRecord) -> Vec<SplitView> {
    let Some(report) = &record.report else {
        return Vec::new();
    };
    let view = |split: &SplitReport| {
        let scores = split.runs.iter().map(|run| {
            let member = report.members.iter().find(|member| member.run == run.run);
            ScoreRow {
                name: run.run.to_string(),
                weight: member.map_or_else(String::new, |member| score(member.weight)),
                accuracy: percentage(run.scores.accuracy),
                loss: loss(run.scores.loss),
            }
        });
        let ensemble = ScoreRow {
            name: "ensemble".to_owned(),
            weight: String::new(),
            accuracy: percentage(split.ensemble.accuracy),
            loss: loss(split.ensemble.loss),
        };
        SplitView {
            name: split.split.to_string(),
            images: plural(split.images, "image"),
            gain: figures::gain(split),
            members: figures::members(report, split),
            confusion: figures::confusion(split),
            classes: figures::classes(split),
            rows: rows(split),
            scores: std::iter::once(ensemble).chain(scores).collect(),
            macro_f1: score(split.macro_f1),
        }
    };
    report.splits.iter().map(view).collect()
}

fn rows(split: &SplitReport) -> Vec<ClassRow> {
    let row = |(index, class): (usize, &quartet_shared::report::ClassScores)| ClassRow {
        class: clean(&class.class, NAME),
        counts: split
            .confusion_matrix
            .get(index)
            .map_or_else(Vec::new, |row| row.iter().map(|&n| count(n)).collect()),
        precision: score(class.precision),
        recall: score(class.recall),
        f1: score(class.f1),
        support: count(class.support),
    };
    split.per_class.iter().enumerate().map(row).collect()
}

/// In which direction probabilities err, where that is more than a percentage point.
fn tendency(calibration: &Calibration) -> &'static str {
    match calibration.confidence() - calibration.accuracy() {
        gap if gap > 0.01 => ": the ensemble is overconfident",
        gap if gap < -0.01 => ": the ensemble is underconfident",
        _ => "",
    }
}

/// What predictions say.
pub(super) fn predictions(findings: &Findings, classes: &[String]) -> PredictionView {
    let name = |class: usize| {
        classes
            .get(class)
            .map_or_else(|| format!("class {class}"), |name| clean(name, NAME))
    };
    let view = |mistake: &Mistake| MistakeView {
        picture: mistake.picture.as_ref().and_then(Picture::address),
        image: mistake.image,
        label: name(mistake.label),
        predicted: name(mistake.predicted),
        probability: percent(mistake.probability),
    };
    PredictionView {
        split: findings.split.to_string(),
        bins: BINS,
        expected_error: percentage(findings.calibration.expected_error),
        confidence: percentage(findings.calibration.confidence()),
        accuracy: percentage(findings.calibration.accuracy()),
        tendency: tendency(&findings.calibration),
        reliability: figures::reliability(findings),
        mistakes: findings.worst.iter().map(view).collect(),
        mistaken: count(findings.wrong),
    }
}
