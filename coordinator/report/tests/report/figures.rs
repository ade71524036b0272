use std::collections::BTreeSet;
use std::sync::Arc;

use quartet_report::{Figure, PngError, figures, png, titled_png};
use resvg::tiny_skia::Rect;
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Group, Node, Options, Tree};

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
    let mut fontdb = Database::new();
    fontdb.load_font_data(dejavu::sans::regular().to_vec());
    fontdb.set_sans_serif_family("DejaVu Sans");
    let fontdb = Arc::new(fontdb);
    for figure in all() {
        let options = Options {
            fontdb: Arc::clone(&fontdb),
            ..Options::default()
        };
        let tree = Tree::from_str(&figure.svg, &options).unwrap();
        let size = tree.size().to_int_size().to_int_rect(0, 0);
        let mut texts = Vec::new();
        collect(tree.root(), &mut texts);
        assert!(!texts.is_empty());
        for (index, (text, at)) in texts.iter().enumerate() {
            let inside = at.left() >= 0.0 && at.right() <= size.width() as f32;
            let inside = inside && at.top() >= 0.0 && at.bottom() <= size.height() as f32;
            assert!(inside, "{}: {text:?} is cut off: {at:?}", figure.name);
            for (other, beside) in &texts[index + 1..] {
                let overlap = at.intersect(beside).is_some();
                assert!(!overlap, "{}: {text:?} and {other:?} overlap", figure.name);
            }
        }
    }
}

/// The texts of a figure, each with the place of its glyphs in CSS pixels.
fn collect(group: &Group, texts: &mut Vec<(String, Rect)>) {
    for node in group.children() {
        match node {
            Node::Group(group) => collect(group, texts),
            Node::Text(text) => {
                let place = text.flattened().abs_bounding_box();
                texts.push((text.chunks()[0].text().trim().to_owned(), place));
            }
            _ => {}
        }
    }
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

    // The same picture, under its title.
    let titled = image::load_from_memory(&titled_png(figure, 2.0).unwrap()).unwrap();
    let titled = titled.into_rgb8();
    assert_eq!(titled.width(), picture.width());
    let title = titled.height() - picture.height();
    let part = |y, height| image::imageops::crop_imm(&titled, 0, y, width * 2, height).to_image();
    assert!(dark(&part(0, title)) > 500);
    let below = part(title, picture.height());
    // Rounded elsewhere, edges may differ by a shade.
    let differ = below
        .iter()
        .zip(picture.iter())
        .filter(|(a, b)| a.abs_diff(**b) > 8);
    assert_eq!(differ.count(), 0);
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
