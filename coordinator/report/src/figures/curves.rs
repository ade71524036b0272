//! The course of one run's training.

use plotters::style::text_anchor::{HPos, VPos};
use quartet_history::RunRecord;
use quartet_shared::progress::EpochMetrics;

use super::axes::{Scales, name_epochs, note, over_epochs, short, whole_percent};
use super::canvas::{Area, Drawn, draw, fitted, px, sized, spread, text};
use super::lines;
use super::theme::{INK, MUTED, PAPER, SERIES};
use crate::text::percent;

const SIZE: (i32, i32) = (320, 290);
const HEAD: f64 = 22.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 40.0;

/// A metric in training and validation.
struct Panel<'a> {
    heading: &'a str,
    is_falling: bool,
    train: Vec<(i32, f64)>,
    valid: Vec<(i32, f64)>,
    range: std::ops::Range<f64>,
    format: fn(&f64) -> String,
}

/// What the figure of a run is called.
pub(crate) fn title(run: &RunRecord) -> String {
    let name = &run.spec.name;
    match run.best() {
        Some(best) => format!(
            "Accuracy and loss of {name} by epoch; best validation accuracy {} after epoch {}",
            percent(best.best_valid_accuracy),
            best.best_epoch
        ),
        None => format!("Accuracy and loss of {name} by epoch; no epoch is done yet"),
    }
}

/// Accuracy and loss of a run, in training and validation, on axes that it shares with other runs.
pub(crate) fn svg(run: &RunRecord, scales: &Scales) -> String {
    draw(&title(run), SIZE, |area| {
        let (head, body) = area.split_vertically(px(HEAD));
        header(&head, run)?;
        if run.epochs.is_empty() {
            return note(&body, "no epoch yet");
        }
        let metric = |metric: fn(&EpochMetrics) -> f64| lines::points(&run.epochs, metric);
        let panels = [
            Panel {
                heading: "accuracy",
                is_falling: false,
                train: metric(|metrics| metrics.train_accuracy),
                valid: metric(|metrics| metrics.valid_accuracy),
                range: scales.accuracy.clone(),
                format: whole_percent,
            },
            Panel {
                heading: "loss",
                is_falling: true,
                train: metric(|metrics| metrics.train_loss),
                valid: metric(|metrics| metrics.valid_loss),
                range: scales.loss.clone(),
                format: short,
            },
        ];
        for (part, panel) in body.split_evenly((2, 1)).iter().zip(&panels) {
            draw_panel(area, part, panel, run, scales.last)?;
        }
        Ok(())
    })
}

fn header(area: &Area<'_>, run: &RunRecord) -> Drawn {
    let middle = px(HEAD / 2.0);
    let name = sized(&INK, 13.0, HPos::Left, VPos::Center);
    area.draw_text(
        &fitted(run.spec.name.as_str(), 13.0, 190.0),
        &name,
        (px(4), middle),
    )?;
    if let Some(best) = run.best() {
        let best = format!(
            "best {} at {}",
            percent(best.best_valid_accuracy),
            best.best_epoch
        );
        let style = text(&MUTED, HPos::Right, VPos::Center);
        area.draw_text(&best, &style, (px(SIZE.0 - 4), middle))?;
    }
    Ok(())
}

fn draw_panel(
    whole: &Area<'_>,
    part: &Area<'_>,
    panel: &Panel<'_>,
    run: &RunRecord,
    last: i32,
) -> Drawn {
    let mut chart = over_epochs(part, (LEFT, RIGHT), last, panel.range.clone(), panel.format)?;
    lines::draw(&mut chart, &panel.train, MUTED, 1.2)?;
    lines::draw(&mut chart, &panel.valid, SERIES[0], 2.2)?;
    let best = run
        .best()
        .and_then(|best| i32::try_from(best.best_epoch.0).ok());
    let at_best = panel.valid.iter().find(|(epoch, _)| Some(*epoch) == best);
    if let Some(&at) = at_best.filter(|(_, value)| value.is_finite()) {
        lines::dot(&mut chart, at, 4.5, SERIES[0])?;
        lines::dot(&mut chart, at, 2.3, PAPER)?;
    }
    let (x, y) = chart.plotting_area().get_pixel_range();
    // Where the curves are not: accuracies rise, losses fall.
    let (corner, side) = if panel.is_falling {
        (x.end - px(2), HPos::Right)
    } else {
        (x.start + px(4), HPos::Left)
    };
    let style = sized(&MUTED, 11.0, side, VPos::Top);
    whole.draw_text(panel.heading, &style, (corner, y.start))?;

    if panel.is_falling {
        name_epochs(whole, &chart)?;
    }

    let ends = [
        ("train", &panel.train, MUTED),
        ("valid", &panel.valid, SERIES[0]),
    ];
    let found = ends.iter().filter_map(|(name, points, colour)| {
        let at = chart.backend_coord(&lines::last(points)?);
        Some((*name, *colour, at))
    });
    let found: Vec<_> = found.collect();
    let mut heights: Vec<f64> = found.iter().map(|(.., at)| f64::from(at.1)).collect();
    let (low, high) = (f64::from(y.start), f64::from(y.end));
    heights
        .iter_mut()
        .for_each(|height| *height = height.clamp(low, high));
    spread(&mut heights, f64::from(px(12)), low, high);
    for ((name, colour, at), height) in found.iter().zip(heights) {
        let style = sized(colour, 11.0, HPos::Left, VPos::Center);
        whole.draw_text(name, &style, (at.0 + px(8), height as i32))?;
    }
    Ok(())
}
