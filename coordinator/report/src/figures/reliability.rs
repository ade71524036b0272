//! Accuracy by confidence.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use quartet_shared::dataset::Split;

use super::axes::{over_fractions, whole_percent};
use super::canvas::{WIDTH, draw, line, px, sized, text};
use super::theme::{AXIS, GRID, INK, LEVELS, MUTED, SERIES};
use crate::calibration::{BINS, Calibration};

const SIZE: (i32, i32) = (WIDTH, 370);
const LEFT: f64 = 52.0;
const RIGHT: f64 = 20.0;

/// What the figure is called.
pub(crate) fn title(split: Split, calibration: &Calibration) -> String {
    let error = calibration.expected_error * 100.0;
    format!("Reliability diagram of the {split} split; expected calibration error {error:.1} %")
}

/// A reliability diagram: the accuracy of each bin as a bar, its mean confidence as a dot, the diagonal where
/// both are equal; below, how many predictions each bin has.
pub(crate) fn svg(split: Split, calibration: &Calibration) -> String {
    draw(&title(split, calibration), SIZE, |area| {
        let (above, below) = area.split_vertically(px(280));
        let mut chart = over_fractions(&above, (LEFT, RIGHT), (0.0..1.0, 6), 0.0..1.0)?;
        let edge = |bin: usize| bin as f64 / BINS as f64;
        let bins = || {
            calibration
                .bins
                .iter()
                .enumerate()
                .filter(|(_, bin)| bin.count > 0)
        };
        for tick in [0.0, 0.2, 0.4, 0.6, 0.8, 1.0] {
            chart.draw_series([PathElement::new(
                vec![(0.0, tick), (1.0, tick)],
                line(GRID, 1.0),
            )])?;
            let (x, y) = chart.backend_coord(&(0.0, tick));
            let style = text(&MUTED, HPos::Right, VPos::Center);
            area.draw_text(&whole_percent(&tick), &style, (x - px(6), y))?;
        }
        let bars = bins().map(|(index, bin)| {
            let corners = [
                (edge(index) + 0.003, 0.0),
                (edge(index + 1) - 0.003, bin.accuracy),
            ];
            Rectangle::new(corners, LEVELS[4].filled())
        });
        chart.draw_series(bars)?;
        chart.draw_series([PathElement::new(
            vec![(0.0, 0.0), (1.0, 1.0)],
            line(AXIS, 1.2),
        )])?;
        let dots = bins().map(|(_, bin)| {
            Circle::new((bin.confidence, bin.accuracy), px(3.5), SERIES[0].filled())
        });
        chart.draw_series(dots)?;
        let style = sized(&MUTED, 11.0, HPos::Left, VPos::Top);
        let (x, y) = chart.backend_coord(&(0.0, 1.0));
        area.draw_text("accuracy", &style, (x + px(4), y))?;

        let most = calibration
            .bins
            .iter()
            .map(|bin| bin.count)
            .max()
            .unwrap_or(0)
            .max(1);
        let counts = below.margin(px(20), px(18), px(LEFT), px(RIGHT));
        let (x, y) = counts.get_pixel_range();
        let (wide, high) = (f64::from(x.end - x.start), f64::from(y.end - y.start));
        for (index, bin) in calibration.bins.iter().enumerate() {
            let left = x.start + (wide * (edge(index) + 0.003)) as i32;
            let right = x.start + (wide * (edge(index + 1) - 0.003)) as i32;
            let top = y.end - (high * bin.count as f64 / most as f64) as i32;
            area.draw(&Rectangle::new(
                [(left, top), (right, y.end)],
                LEVELS[5].filled(),
            ))?;
            let style = sized(&INK, 9.0, HPos::Center, VPos::Bottom);
            area.draw_text(&short_count(bin.count), &style, ((left + right) / 2, top))?;
        }
        let style = sized(&MUTED, 11.0, HPos::Right, VPos::Center);
        area.draw_text("images", &style, (x.start - px(6), y.end - px(5)))?;
        let style = sized(&MUTED, 11.0, HPos::Center, VPos::Bottom);
        area.draw_text(
            "confidence",
            &style,
            ((x.start + x.end) / 2, px(SIZE.1 - 2)),
        )
    })
}

/// A count of at most four characters: `812`, `1.2k`, `28k`.
fn short_count(count: u64) -> String {
    match count {
        0..1000 => count.to_string(),
        1000..9950 => format!("{:.1}k", count as f64 / 1e3),
        9950..999_500 => format!("{:.0}k", count as f64 / 1e3),
        _ => format!("{:.0}M", count as f64 / 1e6),
    }
}
