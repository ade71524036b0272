//! Series of numbers as lines.

use plotters::coord::types::{RangedCoordf64, RangedCoordi32};
use plotters::prelude::*;
use quartet_history::EpochSummary;
use quartet_shared::progress::EpochMetrics;

use super::canvas::{Chart, Drawn, line, px};

/// Points of a line at most: more than a figure has pixels.
const MOST_POINTS: usize = 400;

/// A chart over epochs.
pub(crate) type EpochChart<'a, 'b> = Chart<'a, 'b, RangedCoordi32, RangedCoordf64>;

/// The points of a metric: of thousands of epochs every second, third, ... one, and the last one.
pub(crate) fn points(epochs: &[EpochSummary], metric: fn(&EpochMetrics) -> f64) -> Vec<(i32, f64)> {
    let step = epochs.len().div_ceil(MOST_POINTS).max(1);
    let offset = epochs.len().saturating_sub(1) % step;
    let kept = epochs.iter().skip(offset).step_by(step);
    let point = |epoch: &EpochSummary| {
        let number = i32::try_from(epoch.epoch.0).unwrap_or(i32::MAX);
        (number, metric(&epoch.metrics))
    };
    kept.map(point).collect()
}

/// The last point that is a number.
pub(crate) fn last(points: &[(i32, f64)]) -> Option<(i32, f64)> {
    points
        .iter()
        .rev()
        .find(|(_, value)| value.is_finite())
        .copied()
}

/// Draws a line through the points, with gaps where a value is no number. A point between two gaps is a dot.
/// What lies beyond the axes is drawn at their end.
pub(crate) fn draw(
    chart: &mut EpochChart<'_, '_>,
    points: &[(i32, f64)],
    colour: RGBColor,
    width: f64,
) -> Drawn {
    for segment in points.split(|(_, value)| !value.is_finite()) {
        match segment {
            [] => {}
            [point] => dot(chart, *point, width.max(1.5), colour)?,
            points => {
                let path = PathElement::new(points.to_vec(), line(colour, width));
                chart.draw_series([path])?;
            }
        }
    }
    Ok(())
}

/// Draws a dot of a radius in CSS pixels.
pub(crate) fn dot(
    chart: &mut EpochChart<'_, '_>,
    at: (i32, f64),
    radius: f64,
    colour: RGBColor,
) -> Drawn {
    chart.draw_series([Circle::new(at, px(radius), colour.filled())])?;
    Ok(())
}
