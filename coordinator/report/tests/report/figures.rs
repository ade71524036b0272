use std::collections::BTreeSet;

use quartet_report::{Figure, PngError, figures, png};
use resvg::usvg::roxmltree::Node;

use crate::{parsed, samples};

fn all() -> Vec<Figure> {
    let (finished, predictions) = samples::finished();
    let (many, of_many) = samples::trained(40, 100);
    let mut all = figures(&finished, &predictions);
    all.extend(figures(&many, &of_many));
    all.extend(figures(&samples::failed(), &[]));
    all.extend(figures(&samples::begun(3, 10), &[]));
    all
}

#[test]
fn every_figure_is_an_svg_with_a_name_and_a_title() {
    for figure in all() {
        let document = parsed(&figure.svg);
        let root = document.root_element();
        assert!(root.has_tag_name(("http://www.w3.org/2000/svg", "svg")));
        assert_eq!(root.attribute("aria-label"), Some(&figure.title[..]));
        assert_eq!(
            root.first_element_child().unwrap().text(),
            Some(&figure.title[..])
        );
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        assert!(figure.name.chars().all(allowed), "{}", figure.name);
    }
    let (record, predictions) = samples::finished();
    let names: Vec<String> = figures(&record, &predictions)
        .into_iter()
        .map(|figure| figure.name)
        .collect();
    insta::assert_snapshot!(names.join("\n"));
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

#[test]
fn nothing_is_drawn_outside_of_a_figure() {
    for figure in all() {
        let document = parsed(&figure.svg);
        let view: Vec<f64> = numbers(document.root_element().attribute("viewBox").unwrap());
        for node in document.descendants() {
            for (name, most) in [
                ("x", view[2]),
                ("y", view[3]),
                ("cx", view[2]),
                ("cy", view[3]),
            ] {
                let value = node
                    .attribute(name)
                    .map_or(0.0, |value| value.parse().unwrap());
                assert!((0.0..=most).contains(&value), "{}: {node:?}", figure.name);
            }
            for (at, value) in numbers(node.attribute("points").unwrap_or(""))
                .into_iter()
                .enumerate()
            {
                assert!(
                    (0.0..=view[2 + at % 2]).contains(&value),
                    "{}: {node:?}",
                    figure.name
                );
            }
        }
    }
}

fn numbers(text: &str) -> Vec<f64> {
    text.split([' ', ','])
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().unwrap())
        .collect()
}

#[test]
fn texts_do_not_overlap_and_are_not_cut_off() {
    for figure in all() {
        let document = parsed(&figure.svg);
        let width: f64 = numbers(document.root_element().attribute("viewBox").unwrap())[2];
        let texts = document
            .descendants()
            .filter(|node| node.has_tag_name("text"));
        let boxes: Vec<_> = texts
            .filter(|node| !node.has_attribute("transform"))
            .map(extent)
            .collect();
        for (index, (a, text)) in boxes.iter().enumerate() {
            assert!(
                a[0] >= 0.0 && a[2] <= width,
                "{}: {text:?} is cut off",
                figure.name
            );
            for (b, other) in &boxes[index + 1..] {
                let overlap = a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
                assert!(!overlap, "{}: {text:?} and {other:?} overlap", figure.name);
            }
        }
    }
}

/// Left, top, right, bottom of a text, as a wide sans-serif font has them.
fn extent(node: Node<'_, '_>) -> ([f64; 4], String) {
    let number = |name: &str| node.attribute(name).unwrap().parse::<f64>().unwrap();
    let text = node.text().unwrap().trim().to_owned();
    let (size, x, y) = (number("font-size"), number("x"), number("y"));
    let width = text.chars().count() as f64 * size * 0.58;
    let left = match node.attribute("text-anchor").unwrap() {
        "start" => x,
        "middle" => x - width / 2.0,
        _ => x - width,
    };
    let top = match node.attribute("dy").unwrap() {
        "0.76em" => y,
        "0.5ex" => y - size * 0.4,
        _ => y - size,
    };
    ([left, top, left + width, top + size * 0.8], text)
}

#[test]
fn a_picture_has_text_without_any_font_of_the_machine() {
    let (record, predictions) = samples::finished();
    let figures = figures(&record, &predictions);
    let figure = figures
        .iter()
        .find(|figure| figure.name == "confusion-test")
        .unwrap();
    let read = |svg: &str| {
        image::load_from_memory(&png(svg, 2.0).unwrap())
            .unwrap()
            .into_rgb8()
    };
    let picture = read(&figure.svg);
    let document = parsed(&figure.svg);
    let width: u32 = document
        .root_element()
        .attribute("width")
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(picture.width(), 2 * width);
    assert_eq!(picture.get_pixel(0, 0).0, [255; 3]);
    let dark =
        |picture: &image::RgbImage| picture.pixels().filter(|pixel| pixel.0[0] < 0x40).count();
    let without = figure
        .svg
        .replace("<text", "<desc")
        .replace("</text", "</desc");
    assert!(dark(&picture) > dark(&read(&without)) + 1000);
}

#[test]
fn what_cannot_be_a_picture_is_refused() {
    let svg = "<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'/>";
    assert!(png(svg, 1.0).is_ok());
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e6] {
        assert!(
            matches!(png(svg, scale), Err(PngError::Scale { .. })),
            "{scale}"
        );
    }
    assert!(matches!(png("<p>", 1.0), Err(PngError::Svg(_))));
}
