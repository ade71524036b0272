//! Figures as pictures.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::fontdb::{Database, Source};
use resvg::usvg::{ImageHrefResolver, Options, Tree};

use crate::Figure;
use crate::figures::wrapped;

/// Most pixels of a picture: 64 megapixels, 256 MB in memory.
const MOST_PIXELS: f32 = 64e6;

/// Why a figure has no picture.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    /// It is no SVG.
    #[error("the figure cannot be read as SVG: {0}")]
    Svg(#[from] resvg::usvg::Error),
    /// The picture would have no pixels, or more than memory is meant for.
    #[error(
        "a figure of {width} x {height} cannot be drawn at scale {scale}; choose another scale"
    )]
    Scale {
        /// Width of the figure in CSS pixels.
        width: f32,
        /// Height of the figure in CSS pixels.
        height: f32,
        /// The scale asked for.
        scale: f32,
    },
    /// The picture cannot be encoded.
    #[error("the picture cannot be encoded: {0}")]
    Encoding(String),
}

/// DejaVu Sans, so that text is drawn on machines without fonts, and alike on all. Its licence, that of
/// Bitstream Vera, lets programs contain it.
static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_font_source(Source::Binary(Arc::new(dejavu::sans::regular())));
    fonts.set_sans_serif_family("DejaVu Sans");
    Arc::new(fonts)
});

/// Size of a title's text, and from line to line, in CSS pixels.
const TITLE: f64 = 13.0;
const TITLE_LINE: f64 = 18.0;

/// A figure under its title.
#[derive(askama::Template)]
#[template(path = "titled.svg", escape = "html")]
struct Titled<'a> {
    width: f32,
    height: f32,
    top: f64,
    size: f64,
    lines: Vec<(f64, String)>,
    figure: &'a str,
}

/// A figure with its title above it as a PNG, for a reader who sees it alone. See [`png`].
///
/// # Errors
/// As [`png`].
pub fn titled_png(figure: &Figure, scale: f32) -> Result<Vec<u8>, PngError> {
    let tree = Tree::from_str(&figure.svg, &options())?;
    let (width, height) = (tree.size().width(), tree.size().height());
    let margin = TITLE_LINE / 2.0;
    let lines = wrapped(&figure.title, TITLE, f64::from(width) - 2.0 * margin);
    let baseline = |(index, line)| (margin / 2.0 + TITLE_LINE * (index as f64 + 0.75), line);
    let top = margin + TITLE_LINE * lines.len() as f64;
    let titled = Titled {
        width,
        height: height + top as f32,
        top,
        size: TITLE,
        lines: lines.into_iter().enumerate().map(baseline).collect(),
        figure: &figure.svg,
    };
    let svg = askama::Template::render(&titled).expect("a string takes every text");
    png(&svg, scale)
}

/// An SVG, such as that of a [`Figure`](crate::Figure), as a PNG on white in its light colours. `scale` is
/// the number of pixels for each CSS pixel: 2 for screens, 4 for print.
///
/// # Errors
/// The text is no SVG, or the scale leaves nothing or too much to draw.
pub fn png(svg: &str, scale: f32) -> Result<Vec<u8>, PngError> {
    let tree = Tree::from_str(svg, &options())?;
    let (width, height) = (tree.size().width(), tree.size().height());
    let (columns, rows) = ((width * scale).ceil(), (height * scale).ceil());
    let fits = columns * rows <= MOST_PIXELS;
    let pixmap = if fits {
        Pixmap::new(columns as u32, rows as u32)
    } else {
        None
    };
    let mut pixmap = pixmap.ok_or(PngError::Scale {
        width,
        height,
        scale,
    })?;
    pixmap.fill(Color::WHITE);
    resvg::render(
        &tree,
        Transform::from_scale(scale, scale),
        &mut pixmap.as_mut(),
    );
    pixmap
        .encode_png()
        .map_err(|e| PngError::Encoding(e.to_string()))
}

fn options() -> Options<'static> {
    Options {
        fontdb: Arc::clone(&FONTS),
        font_family: "DejaVu Sans".to_owned(),
        // An SVG must not make this program read files.
        image_href_resolver: ImageHrefResolver {
            resolve_data: Box::new(|_, _, _| None),
            resolve_string: Box::new(|_, _| None),
        },
        ..Options::default()
    }
}
