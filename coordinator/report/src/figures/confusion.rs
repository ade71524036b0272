//! Which classes are taken for which.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use quartet_shared::report::SplitReport;

use super::canvas::{Area, Drawn, TEXT, draw, fitted, px, sized, width_of};
use super::theme::{FIRST_HIGH, INK, LEVELS, MUTED, ON_HIGH, ON_LOW};
use crate::text::count;

/// Classes whose cells have room for numbers.
const WITH_NUMBERS: usize = 12;
/// Classes of which a figure is drawn at all.
const MOST_CLASSES: usize = 64;
const TOP: f64 = 20.0;

/// What the figure is called.
pub(crate) fn title(split: &SplitReport) -> String {
    format!(
        "Confusion matrix of the ensemble on the {} split",
        split.split
    )
}

/// Sizes in CSS pixels.
struct Layout {
    cell: (f64, f64),
    left: f64,
    top: f64,
    upright: bool,
}

/// A heat map of the rows' percentages, with counts; nothing for too many classes or none.
pub(crate) fn svg(split: &SplitReport) -> Option<String> {
    let names: Vec<&str> = split
        .per_class
        .iter()
        .map(|class| &class.class[..])
        .collect();
    let classes = names.len();
    let is_square = split.confusion_matrix.len() == classes
        && split
            .confusion_matrix
            .iter()
            .all(|row| row.len() == classes);
    if !is_square || !(1..=MOST_CLASSES).contains(&classes) {
        return None;
    }
    let longest = names
        .iter()
        .map(|name| width_of(&fitted(name, TEXT, 110.0), TEXT))
        .fold(30.0, f64::max);
    let has_numbers = classes <= WITH_NUMBERS;
    let cell = if has_numbers {
        (46.0, 38.0)
    } else {
        (14.0, 14.0)
    };
    let layout = Layout {
        left: TOP + longest + 4.0,
        upright: longest > cell.0 + 10.0,
        top: TOP
            + if longest > cell.0 + 10.0 {
                longest
            } else {
                18.0
            },
        cell,
    };
    let width = layout.left + cell.0 * classes as f64 + 4.0;
    let height = layout.top + cell.1 * classes as f64 + 4.0;
    let size = (width.ceil() as i32, height.ceil() as i32);
    Some(draw(&title(split), size, |area| {
        labels(area, &layout, &names)?;
        for (row, counts) in split.confusion_matrix.iter().enumerate() {
            for (column, &number) in counts.iter().enumerate() {
                let all: u64 = counts.iter().sum();
                let part = (all > 0).then(|| number as f64 / all as f64);
                draw_cell(area, &layout, (row, column), part, number, has_numbers)?;
            }
        }
        Ok(())
    }))
}

fn draw_cell(
    area: &Area<'_>,
    layout: &Layout,
    (row, column): (usize, usize),
    part: Option<f64>,
    number: u64,
    has_numbers: bool,
) -> Drawn {
    let x = layout.left + column as f64 * layout.cell.0;
    let y = layout.top + row as f64 * layout.cell.1;
    // Half a pixel of paper lies between cells.
    let corners = [
        (px(x), px(y)),
        (px(x + layout.cell.0 - 1.0), px(y + layout.cell.1 - 1.0)),
    ];
    let level = part.map_or(0, |part| {
        (part * (LEVELS.len() - 1) as f64).round() as usize
    });
    area.draw(&Rectangle::new(
        corners,
        LEVELS[level.min(LEVELS.len() - 1)].filled(),
    ))?;
    if !has_numbers {
        return Ok(());
    }
    let ink = if level >= FIRST_HIGH {
        &ON_HIGH
    } else {
        &ON_LOW
    };
    let middle = px(x + (layout.cell.0 - 1.0) / 2.0);
    let percentage = part.map_or_else(|| "–".to_owned(), |part| format!("{:.0} %", part * 100.0));
    let style = sized(ink, 12.5, HPos::Center, VPos::Center);
    area.draw_text(&percentage, &style, (middle, px(y + 13.0)))?;
    let style = sized(ink, 10.0, HPos::Center, VPos::Center);
    area.draw_text(&count(number), &style, (middle, px(y + 27.5)))
}

fn labels(area: &Area<'_>, layout: &Layout, names: &[&str]) -> Drawn {
    let across = layout.left + layout.cell.0 * names.len() as f64 / 2.0;
    let down = layout.top + layout.cell.1 * names.len() as f64 / 2.0;
    let axis = sized(&MUTED, 11.0, HPos::Center, VPos::Center);
    area.draw_text("predicted class", &axis, (px(across), px(TOP / 2.0)))?;
    let turned = axis.transform(FontTransform::Rotate270);
    area.draw_text("class", &turned, (px(TOP / 2.0), px(down)))?;
    for (index, name) in names.iter().enumerate() {
        let name = fitted(name, TEXT, 110.0);
        let y = layout.top + (index as f64 + 0.5) * layout.cell.1;
        let style = sized(&INK, TEXT, HPos::Right, VPos::Center);
        area.draw_text(&name, &style, (px(layout.left - 5.0), px(y)))?;
        let x = layout.left + (index as f64 + 0.5) * layout.cell.0 - 0.5;
        if layout.upright {
            let style =
                sized(&INK, TEXT, HPos::Left, VPos::Center).transform(FontTransform::Rotate270);
            area.draw_text(&name, &style, (px(x), px(layout.top - 4.0)))?;
        } else {
            let style = sized(&INK, 10.0, HPos::Center, VPos::Center);
            area.draw_text(&name, &style, (px(x), px(layout.top - 8.0)))?;
        }
    }
    Ok(())
}
