//! What became of an experiment, as one HTML file that needs nothing else, and as figures.
//!
//! Everything here is a pure function of an [`ExperimentRecord`](quartet_history::ExperimentRecord), of
//! [`Findings`] if there are any, and of the time that is passed in: no store, no clock, no file. Equal
//! input gives equal output.
//!
//! - [`html`]: the report; its templates are in `templates/`, its view in `page`
//! - [`figures`], [`curves`], [`accuracies`], [`losses`]: the figures as SVG
//! - [`style`], [`sentence`]: what a live page has in common with the report
//! - [`png`], [`titled_png`]: an SVG of this crate as a picture
//! - [`findings`], [`calibration`]: what predictions tell beyond the scores of the evaluation
//! - `text`: foreign text and numbers for readers
//!
//! The figures are drawn by plotters: it tells where a value lies, so that labels can stand beside their
//! lines, and for SVG it needs num-traits and two small crates of its own. kuva and charts-rs draw whole
//! charts with legends; charming and plotly need JavaScript; poloto has one style of lines, points and bars.

pub mod calibration;
mod figures;
pub mod findings;
mod page;
mod png;
mod sentence;
mod text;

pub use figures::{Figure, accuracies, confusion_matrices, curves, figures, losses};
pub use findings::{Findings, Observer};
pub use page::{html, style};
pub use png::{PngError, png, titled_png};
pub use sentence::sentence;
