//! Axes, and how far they reach.

use std::ops::Range;

use plotters::coord::types::{RangedCoordf64, RangedCoordi32};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use quartet_history::RunRecord;
use quartet_shared::ids::MAX_NUMBER;
use quartet_shared::progress::EpochMetrics;

use super::canvas::{Area, Chart, Drawn, line, px, sized, text};
use super::theme::{AXIS, GRID, MUTED};

/// Losses beyond so many times that of a usual first epoch are cut off: a run that diverges would press all
/// other curves to the ground.
const BEYOND: f64 = 2.5;

/// Axes that the figures of several runs share, so that one can be compared with another.
pub(crate) struct Scales {
    /// The last epoch of any run, at least 2.
    pub(crate) last: i32,
    /// Accuracies.
    pub(crate) accuracy: Range<f64>,
    /// Validation accuracies.
    pub(crate) valid_accuracy: Range<f64>,
    /// Losses.
    pub(crate) loss: Range<f64>,
    /// Validation losses.
    pub(crate) valid_loss: Range<f64>,
    /// Whether losses are cut off.
    pub(crate) is_loss_cut: bool,
}

impl Scales {
    /// Axes for all that these runs have.
    pub(crate) fn of(runs: &[RunRecord]) -> Self {
        let epochs = || runs.iter().flat_map(|run| &run.epochs);
        let last = epochs().map(|epoch| epoch.epoch.0).max().unwrap_or(0);
        let metrics = || epochs().map(|epoch| &epoch.metrics);
        let valid = || metrics().map(|metrics| metrics.valid_accuracy);
        let train = metrics().map(|metrics| metrics.train_accuracy);
        let (train_loss, is_train_cut) = losses(runs, |metrics| metrics.train_loss);
        let (valid_loss, is_valid_cut) = losses(runs, |metrics| metrics.valid_loss);
        Self {
            // plotters adds to it.
            last: last.clamp(2, MAX_NUMBER) as i32,
            accuracy: around(train.chain(valid()), 0.1),
            valid_accuracy: around(valid(), 0.05),
            loss: 0.0..train_loss.max(valid_loss),
            valid_loss: 0.0..valid_loss,
            is_loss_cut: is_train_cut || is_valid_cut,
        }
    }
}

/// Where an axis for these losses of each run ends, and whether some of them lie beyond.
fn losses(runs: &[RunRecord], metric: fn(&EpochMetrics) -> f64) -> (f64, bool) {
    let of_run = |run: &RunRecord| {
        let losses: Vec<f64> = run
            .epochs
            .iter()
            .map(|epoch| metric(&epoch.metrics))
            .collect();
        losses.into_iter().filter(|loss| loss.is_finite())
    };
    let mut first: Vec<f64> = runs.iter().filter_map(|run| of_run(run).next()).collect();
    first.sort_by(f64::total_cmp);
    let Some(&usual) = first.get(first.len() / 2) else {
        return (1.0, false);
    };
    let largest = runs.iter().flat_map(of_run).fold(0.0, f64::max);
    let most = largest.min(usual.max(1e-3) * BEYOND).clamp(1e-3, 1e9);
    (most * 1.04, largest > most)
}

/// The fractions from a multiple of `step` to another one that hold all of these; 0 to 1 for none.
pub(crate) fn around(fractions: impl Iterator<Item = f64>, step: f64) -> Range<f64> {
    let finite = fractions.filter(|fraction| (0.0..=1.0).contains(fraction));
    let (low, high) = finite.fold((1.0, 0.0), |(low, high), x| (x.min(low), x.max(high)));
    if low > high {
        return 0.0..1.0;
    }
    let low = ((low - step / 5.0) / step).floor() * step;
    let high = ((high + step / 5.0) / step).ceil() * step;
    low.max(0.0)..high.min(1.0).max(low + step)
}

/// A chart over epochs: the area's margins are `right` CSS pixels wide for labels, `left` for the axis.
pub(crate) fn over_epochs<'a, 'b>(
    area: &'b Area<'a>,
    (left, right): (f64, f64),
    last: i32,
    range: Range<f64>,
    format: fn(&f64) -> String,
) -> Result<Chart<'a, 'b, RangedCoordi32, RangedCoordf64>, DrawingAreaErrorKind<std::io::Error>> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(px(8))
        .margin_right(px(right))
        .x_label_area_size(px(20))
        .y_label_area_size(px(left))
        .build_cartesian_2d(1..last, range)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(1)
        .light_line_style(TRANSPARENT)
        .bold_line_style(line(GRID, 1.0))
        .axis_style(line(AXIS, 1.0))
        .label_style(sized(&MUTED, 11.0, HPos::Center, VPos::Center))
        .x_labels(6)
        .y_labels(5)
        .y_label_formatter(&format)
        .set_all_tick_mark_size(px(2.5))
        .draw()?;
    Ok(chart)
}

/// Names the axis of a chart over epochs, left of its numbers.
pub(crate) fn name_epochs(
    whole: &Area<'_>,
    chart: &Chart<'_, '_, RangedCoordi32, RangedCoordf64>,
) -> Drawn {
    let (x, y) = chart.plotting_area().get_pixel_range();
    let style = sized(&MUTED, 11.0, HPos::Right, VPos::Top);
    whole.draw_text("epoch", &style, (x.start - px(7), y.end + px(6)))
}

/// A chart over fractions of 1 that has at most so many labels below, and room for labels of rows at its
/// left.
pub(crate) fn over_fractions<'a, 'b>(
    area: &'b Area<'a>,
    (left, right): (f64, f64),
    (fractions, labels): (Range<f64>, usize),
    rows: Range<f64>,
) -> Result<Chart<'a, 'b, RangedCoordf64, RangedCoordf64>, DrawingAreaErrorKind<std::io::Error>> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(px(8))
        .margin_left(px(left))
        .margin_right(px(right))
        .x_label_area_size(px(20))
        .build_cartesian_2d(fractions, rows)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .max_light_lines(1)
        .light_line_style(TRANSPARENT)
        .bold_line_style(line(GRID, 1.0))
        .axis_style(line(AXIS, 1.0))
        .label_style(text(&MUTED, HPos::Center, VPos::Center))
        .x_labels(labels)
        .y_labels(0)
        .x_label_formatter(&whole_percent)
        .set_all_tick_mark_size(px(2.5))
        .draw()?;
    Ok(chart)
}

/// A fraction of 1 at an axis: `70 %`, `72.5 %`.
pub(crate) fn whole_percent(fraction: &f64) -> String {
    let tenths = (fraction * 1000.0).round();
    format!("{} %", tenths / 10.0)
}

/// A loss at an axis: at most three decimals.
pub(crate) fn short(value: &f64) -> String {
    format!("{}", (value * 1000.0).round() / 1000.0)
}

/// Draws a note in the middle of an area that has nothing else to show.
pub(crate) fn note(area: &Area<'_>, words: &str) -> Drawn {
    let (width, height) = area.dim_in_pixel();
    let style = text(&MUTED, HPos::Center, VPos::Center);
    area.draw_text(words, &style, (width as i32 / 2, height as i32 / 2))
}
