//! What all figures are drawn on.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use quartet_shared::label::MAX_LABEL;

use crate::text::clean;

/// plotters rounds coordinates to whole units. A figure has so many of them for each CSS pixel.
pub(crate) const UNIT: i32 = 10;

/// Width of a figure that is not a small multiple, in CSS pixels: that of a phone, so that text is not scaled
/// down where it would become too small.
pub(crate) const WIDTH: i32 = 400;

/// Size of text in CSS pixels.
pub(crate) const TEXT: f64 = 12.0;

/// Mean width of a character, in parts of the size of text: that of DejaVu Sans, which is wider than most.
const CHARACTER: f64 = 0.58;

/// A part of a figure, in units.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A coordinate system in an area.
pub(crate) type Chart<'a, 'b, X, Y> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<X, Y>>;

/// What drawing gives.
pub(crate) type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// The frame of an SVG.
#[derive(askama::Template)]
#[template(path = "figure.svg", escape = "html")]
struct Frame<'a> {
    title: &'a str,
    width: i32,
    height: i32,
    unit: i32,
    body: &'a str,
}

/// An SVG of so many CSS pixels whose title is told to those who cannot see it.
pub(crate) fn draw(
    title: &str,
    (width, height): (i32, i32),
    paint: impl FnOnce(&Area<'_>) -> Drawn,
) -> String {
    let mut drawing = String::new();
    let area = SVGBackend::with_string(&mut drawing, (px(width) as u32, px(height) as u32))
        .into_drawing_area();
    paint(&area)
        .and_then(|()| area.present())
        .expect("a string takes every drawing");
    drop(area);
    let body = drawing.split_once('\n').map_or("", |(_, body)| body);
    let body = body.trim_end().trim_end_matches("</svg>");
    let frame = Frame {
        title,
        width,
        height,
        unit: UNIT,
        body,
    };
    askama::Template::render(&frame).expect("a string takes every text")
}

/// CSS pixels in units.
pub(crate) fn px(pixels: impl Into<f64>) -> i32 {
    (pixels.into() * f64::from(UNIT)).round() as i32
}

/// A line of so many CSS pixels.
pub(crate) fn line(colour: RGBColor, width: f64) -> ShapeStyle {
    colour.stroke_width(px(width) as u32)
}

/// Text of [`TEXT`] pixels that hangs on a point.
pub(crate) fn text(colour: &RGBColor, horizontal: HPos, vertical: VPos) -> TextStyle<'_> {
    sized(colour, TEXT, horizontal, vertical)
}

/// Text of so many CSS pixels that hangs on a point.
pub(crate) fn sized(
    colour: &RGBColor,
    size: f64,
    horizontal: HPos,
    vertical: VPos,
) -> TextStyle<'_> {
    // plotters writes 1 / 1.24 of the size that it is told.
    let font = ("sans-serif", size * f64::from(UNIT) * 1.24).into_font();
    TextStyle::from(font)
        .color(colour)
        .pos(Pos::new(horizontal, vertical))
}

/// Width that a text of a size needs at most, both in CSS pixels.
pub(crate) fn width_of(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * CHARACTER * size
}

/// Foreign text of a size that fits a width, both in CSS pixels. What is too long loses its middle: names of
/// runs often differ at their end.
pub(crate) fn fitted(text: &str, size: f64, width: f64) -> String {
    let text = clean(text, MAX_LABEL);
    let most = (width / (CHARACTER * size)).max(1.0) as usize;
    let length = text.chars().count();
    if length <= most {
        return text;
    }
    let tail = (most - 1) / 2;
    let head = text.chars().take(most - 1 - tail);
    head.chain(['…'])
        .chain(text.chars().skip(length - tail))
        .collect()
}

/// Foreign text of a size in lines that fit a width, both in CSS pixels; cut off after three of them.
pub(crate) fn wrapped(text: &str, size: f64, width: f64) -> Vec<String> {
    let text = clean(text, MAX_LABEL);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line)
                if width_of(line, size) + width_of(word, size) + CHARACTER * size <= width =>
            {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(fitted(word, size, width)),
        }
    }
    lines.truncate(3);
    lines
}

/// Moves labels apart that would overlap: their positions are at least `gap` from each other afterwards, in
/// the same order, and within `low..=high` as long as there is room.
pub(crate) fn spread(positions: &mut [f64], gap: f64, low: f64, high: f64) {
    let mut order: Vec<usize> = (0..positions.len()).collect();
    order.sort_by(|&a, &b| positions[a].total_cmp(&positions[b]));
    let mut least = low;
    for &index in &order {
        positions[index] = positions[index].max(least);
        least = positions[index] + gap;
    }
    let mut most = high;
    for &index in order.iter().rev() {
        positions[index] = positions[index].min(most);
        most = positions[index] - gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_its_ends() {
        let width = 9.0 * CHARACTER * TEXT + 0.1;
        assert_eq!(fitted("resnet-01", TEXT, width), "resnet-01");
        assert_eq!(fitted("resnet50-01", TEXT, width), "resn…0-01");
        assert_eq!(fitted("resnet50-01", TEXT, 0.0), "…");
    }

    #[test]
    fn lines_end_between_words() {
        let width = 12.0 * CHARACTER * TEXT + 0.1;
        let lines = wrapped("accuracy of the best epochs", TEXT, width);
        assert_eq!(lines, ["accuracy of", "the best", "epochs"]);
        assert_eq!(wrapped("", TEXT, width), [""; 0]);
    }

    #[test]
    fn labels_are_moved_apart_within_their_room() {
        let mut heights = [50.0, 10.0, 51.0, 98.0, 99.0];
        spread(&mut heights, 10.0, 0.0, 100.0);
        assert_eq!(heights, [50.0, 10.0, 60.0, 90.0, 100.0]);
        let mut heights = [0.0, f64::NAN];
        spread(&mut heights, 10.0, 0.0, 100.0);
        assert!(heights.iter().all(|height| (0.0..=100.0).contains(height)));
    }
}
