//! The ensemble beside its members.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use quartet_shared::report::{EvaluationReport, SplitReport};

use super::axes::{around, over_fractions};
use super::canvas::{TEXT, WIDTH, draw, fitted, line, px, text};
use super::theme::{GRID, INK, MUTED, SERIES};
use crate::text::percent;

const LEFT: f64 = 146.0;
/// Where the accuracies end, and the weights.
const RIGHT: [f64; 2] = [WIDTH as f64 - 56.0, WIDTH as f64 - 4.0];
/// Members from which on rows lie closer.
const MANY: usize = 12;

/// A row of the figure.
struct Row<'a> {
    name: &'a str,
    accuracy: f64,
    is_ensemble: bool,
    weight: Option<f64>,
}

/// What the figure is called.
pub(crate) fn title(split: &SplitReport) -> String {
    format!(
        "Accuracy of the ensemble and of its members on the {} split",
        split.split
    )
}

/// A square for the ensemble, above dots for its members from the best to the worst. All splits have one
/// axis.
pub(crate) fn svg(report: &EvaluationReport, split: &SplitReport) -> String {
    let all = report.splits.iter().flat_map(|split| {
        let members = split.runs.iter().map(|run| run.scores.accuracy);
        members.chain([split.ensemble.accuracy])
    });
    let (range, rows) = (around(all, 0.05), rows(report, split));
    let height = if rows.len() > MANY { 18 } else { 22 };
    let size = (WIDTH, rows.len() as i32 * height + 30);
    draw(&title(split), size, |area| {
        let margins = (LEFT, f64::from(WIDTH) - RIGHT[0] + 48.0);
        let across = -0.5..rows.len() as f64 - 0.5;
        let mut chart = over_fractions(area, margins, (range.clone(), 4), across)?;
        for (row, height) in rows.iter().rev().zip(0..) {
            let start = (range.start, f64::from(height));
            let mark = (row.accuracy, f64::from(height));
            if row.accuracy.is_finite() {
                chart.draw_series([PathElement::new(vec![start, mark], line(GRID, 2.0))])?;
                if row.is_ensemble {
                    let corners = [(-px(5), -px(5)), (px(5), px(5))];
                    let square = Rectangle::new(corners, SERIES[1].filled());
                    chart.draw_series([EmptyElement::at(mark) + square])?;
                } else {
                    chart.draw_series([Circle::new(mark, px(4.5), SERIES[0].filled())])?;
                }
            }
            let (_, y) = chart.backend_coord(&start);
            let right = |colour| text(colour, HPos::Right, VPos::Center);
            let name = fitted(row.name, TEXT, LEFT - 8.0);
            area.draw_text(&name, &right(&INK), (px(LEFT - 8.0), y))?;
            area.draw_text(&percent(row.accuracy), &right(&INK), (px(RIGHT[0]), y))?;
            if let Some(weight) = row.weight {
                area.draw_text(&format!("× {weight:.2}"), &right(&MUTED), (px(RIGHT[1]), y))?;
            }
        }
        Ok(())
    })
}

fn rows<'a>(report: &'a EvaluationReport, split: &'a SplitReport) -> Vec<Row<'a>> {
    let mut rows = Vec::with_capacity(split.runs.len() + 1);
    for run in &split.runs {
        let mut members = report.members.iter();
        let member = members.find(|member| member.run == run.run);
        rows.push(Row {
            name: run.run.as_str(),
            accuracy: run.scores.accuracy,
            is_ensemble: false,
            weight: member.map(|member| member.weight),
        });
    }
    rows.sort_by(|a, b| b.accuracy.total_cmp(&a.accuracy));
    let ensemble = Row {
        name: "ensemble",
        accuracy: split.ensemble.accuracy,
        is_ensemble: true,
        weight: None,
    };
    rows.insert(0, ensemble);
    rows
}

/// How much the ensemble gains over its best member, as a sentence.
pub(crate) fn gain(split: &SplitReport) -> Option<String> {
    let runs = split
        .runs
        .iter()
        .filter(|run| run.scores.accuracy.is_finite());
    // The first of equal ones.
    let best = runs
        .rev()
        .max_by(|a, b| a.scores.accuracy.total_cmp(&b.scores.accuracy))?;
    let points = (split.ensemble.accuracy - best.scores.accuracy) * 100.0;
    let compared = match points {
        points if points.is_nan() => return None,
        points if points.abs() < 0.05 => "as many as".to_owned(),
        points if points > 0.0 => format!("{points:.1} percentage points more than"),
        points => format!("{:.1} percentage points fewer than", -points),
    };
    Some(format!(
        "On the {} split, the ensemble is right about {} of the images, {compared} its best member, {} ({}).",
        split.split,
        percent(split.ensemble.accuracy),
        best.run,
        percent(best.scores.accuracy)
    ))
}
