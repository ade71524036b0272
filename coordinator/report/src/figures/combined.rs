//! One metric of all runs in one figure.

use std::ops::Range;

use plotters::element::PathElement;
use plotters::style::text_anchor::{HPos, VPos};
use quartet_history::RunRecord;
use quartet_shared::progress::EpochMetrics;

use super::axes::{Scales, name_epochs, note, over_epochs, short, whole_percent};
use super::canvas::{WIDTH, draw, fitted, line, px, sized, spread, width_of};
use super::lines;
use super::theme::{FAINT, PAPER, SERIES};
use crate::text::{percent, plural};

const HEIGHT: i32 = 300;
/// Size of the runs' names in CSS pixels.
const NAME: f64 = 11.0;
/// Most room for them.
const NAMES: f64 = 134.0;

/// Runs of a colour and a label of their own: if there are more runs, those with the best validation
/// accuracy.
pub(crate) const NAMED: usize = SERIES.len();

/// What a figure shows of each run.
#[derive(Clone, Copy)]
pub(crate) enum Metric {
    /// Validation accuracy.
    Accuracy,
    /// Validation loss.
    Loss,
}

impl Metric {
    fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Loss => "loss",
        }
    }

    fn of(self) -> fn(&EpochMetrics) -> f64 {
        match self {
            Self::Accuracy => |metrics| metrics.valid_accuracy,
            Self::Loss => |metrics| metrics.valid_loss,
        }
    }

    fn axis(self, scales: &Scales) -> (Range<f64>, fn(&f64) -> String) {
        match self {
            Self::Accuracy => (scales.valid_accuracy.clone(), whole_percent),
            Self::Loss => (scales.valid_loss.clone(), short),
        }
    }
}

/// What the figure is called.
pub(crate) fn title(runs: &[RunRecord], metric: Metric) -> String {
    let runs = plural(runs.len() as u64, "run");
    format!("Validation {} of {runs} by epoch", metric.name())
}

/// The metric of each run by epoch, its best epoch marked and its name at its end.
pub(crate) fn svg(runs: &[RunRecord], scales: &Scales, metric: Metric) -> String {
    draw(&title(runs, metric), (WIDTH, HEIGHT), |area| {
        let named = named(runs);
        if named.is_empty() {
            return note(area, "no epoch yet");
        }
        let labels = named
            .iter()
            .map(|run| fitted(run.spec.name.as_str(), NAME, NAMES));
        let labels: Vec<String> = labels.collect();
        let widths = labels.iter().map(|label| width_of(label, NAME));
        let right = widths.fold(20.0, f64::max) + 14.0;
        let (range, format) = metric.axis(scales);
        let mut chart = over_epochs(area, (44.0, right), scales.last, range, format)?;
        name_epochs(area, &chart)?;
        let is_named = |run: &RunRecord| named.iter().any(|named| named.spec.name == run.spec.name);
        for run in runs.iter().filter(|run| !is_named(run)) {
            lines::draw(
                &mut chart,
                &lines::points(&run.epochs, metric.of()),
                FAINT,
                1.0,
            )?;
        }
        let mut ends = Vec::new();
        for ((run, label), colour) in named.iter().zip(&labels).zip(SERIES) {
            let points = lines::points(&run.epochs, metric.of());
            lines::draw(&mut chart, &points, colour, 1.8)?;
            let best = run
                .best()
                .and_then(|best| i32::try_from(best.best_epoch.0).ok());
            let at_best = points.iter().find(|(epoch, _)| Some(*epoch) == best);
            if let Some(&at) = at_best.filter(|(_, value)| value.is_finite()) {
                lines::dot(&mut chart, at, 4.5, colour)?;
                lines::dot(&mut chart, at, 2.3, PAPER)?;
            }
            if let Some(at) = lines::last(&points) {
                ends.push((label, colour, chart.backend_coord(&at)));
            }
        }
        let (x, y) = chart.plotting_area().get_pixel_range();
        let (top, bottom) = (f64::from(y.start), f64::from(y.end));
        let heights = ends
            .iter()
            .map(|(.., at)| f64::from(at.1).clamp(top, bottom));
        let mut heights: Vec<f64> = heights.collect();
        spread(&mut heights, f64::from(px(13)), top, bottom);
        for ((label, colour, at), height) in ends.iter().zip(heights) {
            let name = (x.end + px(10), height as i32);
            let leader = vec![*at, (name.0 - px(2), name.1)];
            area.draw(&PathElement::new(leader, line(*colour, 0.5)))?;
            let style = sized(colour, NAME, HPos::Left, VPos::Center);
            area.draw_text(label, &style, name)?;
        }
        Ok(())
    })
}

/// The runs that have a colour, in the order of the spec.
fn named(runs: &[RunRecord]) -> Vec<&RunRecord> {
    let accuracy = |run: &RunRecord| {
        run.best()
            .map_or(f64::NEG_INFINITY, |best| best.best_valid_accuracy)
    };
    let mut order: Vec<usize> = (0..runs.len())
        .filter(|&i| !runs[i].epochs.is_empty())
        .collect();
    order.sort_by(|&a, &b| accuracy(&runs[b]).total_cmp(&accuracy(&runs[a])));
    order.truncate(NAMED);
    order.sort_unstable();
    order.into_iter().map(|index| &runs[index]).collect()
}

/// How the figures are read, beyond their titles.
pub(crate) fn caption(runs: &[RunRecord]) -> String {
    let best = runs.iter().filter_map(|run| Some((run, run.best()?)));
    let numbers = best.filter(|(_, best)| best.best_valid_accuracy.is_finite());
    // The first of equal ones.
    let best = numbers
        .rev()
        .max_by(|(_, a), (_, b)| a.best_valid_accuracy.total_cmp(&b.best_valid_accuracy));
    let mut caption =
        "A ring marks the best epoch of a run, that of its best validation accuracy.".to_owned();
    if let Some((run, state)) = best {
        let accuracy = percent(state.best_valid_accuracy);
        let (epoch, name) = (state.best_epoch, &run.spec.name);
        caption.push_str(&format!(
            " The best of all is epoch {epoch} of {name} with {accuracy}."
        ));
    }
    if runs.len() > NAMED {
        caption.push_str(&format!(
            " The {NAMED} best runs have a name, the others are gray."
        ));
    }
    caption
}
