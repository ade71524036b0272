//! How well each class is found.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use quartet_shared::report::SplitReport;

use super::axes::over_fractions;
use super::canvas::{TEXT, WIDTH, draw, fitted, px, sized, text};
use super::theme::{INK, LEVELS, MUTED};
use crate::text::{count, score};

const LEFT: f64 = 96.0;
const RIGHT: f64 = 88.0;
const GROUP: f64 = 42.0;
const BAR: f64 = 11.0;
const MOST_CLASSES: usize = 64;

/// What the figure is called.
pub(crate) fn title(split: &SplitReport) -> String {
    format!(
        "Precision, recall and F1 of each class on the {} split",
        split.split
    )
}

/// Three bars for each class, and how many images it has; nothing for too many classes or none.
pub(crate) fn svg(split: &SplitReport) -> Option<String> {
    let classes = split.per_class.len();
    if !(1..=MOST_CLASSES).contains(&classes) {
        return None;
    }
    let height = (classes as f64 * GROUP + 26.0).ceil() as i32;
    Some(draw(&title(split), (WIDTH, height), |area| {
        let rows = 0.0..classes as f64 * GROUP;
        let mut chart = over_fractions(area, (LEFT, RIGHT), (0.0..1.0, 6), rows.clone())?;
        for (index, class) in split.per_class.iter().enumerate() {
            let top = rows.end - index as f64 * GROUP - 4.0;
            let bars = [
                ("precision", class.precision, LEVELS[5]),
                ("recall", class.recall, LEVELS[7]),
                ("F1", class.f1, MUTED),
            ];
            for (bar, (name, value, colour)) in bars.into_iter().enumerate() {
                let top = top - bar as f64 * BAR;
                let shown = if value.is_finite() {
                    value.clamp(0.0, 1.0)
                } else {
                    0.0
                };
                let corners = [(0.0, top), (shown, top - BAR + 1.5)];
                chart.draw_series([Rectangle::new(corners, colour.filled())])?;
                let (x, y) = chart.backend_coord(&(shown, top - BAR / 2.0));
                let style = sized(&MUTED, 10.5, HPos::Left, VPos::Center);
                // The first class says what the bars of all are.
                let label = if index == 0 {
                    format!("{} {name}", score(value))
                } else {
                    score(value)
                };
                area.draw_text(&label, &style, (x + px(4), y))?;
            }
            let (_, y) = chart.backend_coord(&(0.0, top - 1.5 * BAR));
            let name = fitted(&class.class, TEXT, LEFT - 12.0);
            area.draw_text(
                &name,
                &text(&INK, HPos::Right, VPos::Center),
                (px(LEFT - 8.0), y - px(7)),
            )?;
            let style = sized(&MUTED, 11.0, HPos::Right, VPos::Center);
            let support = format!("n = {}", count(class.support));
            area.draw_text(&support, &style, (px(LEFT - 8.0), y + px(8)))?;
        }
        Ok(())
    }))
}
