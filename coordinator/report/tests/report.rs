//! The report and its figures, of experiments of all kinds.

mod report {
    mod edges;
    mod figures;
    mod page;
}
mod samples;

use quartet_report::html;
use resvg::usvg::roxmltree::{Document, ParsingOptions};

/// The page of a record as a tree. It is written so that a parser of XML, who forgives nothing, can read it.
fn parsed(page: &str) -> Document<'_> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(page, options).unwrap()
}

/// All text of the element with this `id`, or of the first one with this name.
fn text_of(page: &Document<'_>, id: &str) -> String {
    let mut elements = page.descendants();
    let element = elements.find(|node| node.attribute("id") == Some(id) || node.has_tag_name(id));
    let texts = element.unwrap().descendants().filter(|node| node.is_text());
    let words = texts
        .filter_map(|node| node.text())
        .flat_map(str::split_whitespace);
    words.collect::<Vec<_>>().join(" ")
}

/// The whole text of a page, without its style sheet.
fn whole_text(page: &str) -> String {
    text_of(&parsed(page), "body")
}

fn page_of(record: &quartet_history::ExperimentRecord) -> String {
    html(record, &[], samples::NOW)
}
