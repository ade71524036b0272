//! The images that the ensemble is most wrong about.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::ImageEncoder as _;

use crate::predictions::Predictions;

/// Mistakes that a report shows of each split.
pub const SHOWN: usize = 24;

/// A wrong prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// Index of the image in its split.
    pub image: usize,
    /// Its class.
    pub label: usize,
    /// The predicted class.
    pub predicted: usize,
    /// The probability of the predicted class.
    pub probability: f32,
    /// The image as the address of a PNG (`data:image/png;base64,…`), if there are images.
    pub picture: Option<String>,
}

/// The wrong predictions of the highest probabilities, at most `count`, the worst one first; of equal ones
/// the first image. The predictions must be valid for so many classes.
#[must_use]
pub fn worst(predictions: &Predictions, classes: usize, count: usize) -> Vec<Mistake> {
    let rows = predictions.rows(classes).enumerate();
    let mut wrong: Vec<_> = rows.filter(|(_, row)| row.predicted != row.label).collect();
    wrong.sort_by(|(_, a), (_, b)| b.confidence.total_cmp(&a.confidence));
    wrong.truncate(count);
    let mistake = |(image, row): (usize, crate::predictions::Row)| Mistake {
        image,
        label: row.label,
        predicted: row.predicted,
        probability: row.confidence,
        picture: picture(predictions, image),
    };
    wrong.into_iter().map(mistake).collect()
}

fn picture(predictions: &Predictions, image: usize) -> Option<String> {
    let images = predictions.images.as_ref()?;
    let (width, height) = (usize::from(images.width), usize::from(images.height));
    let pixels = images.pixels.chunks_exact(width * height).nth(image)?;
    let mut file = Vec::new();
    image::codecs::png::PngEncoder::new(&mut file)
        .write_image(
            pixels,
            width as u32,
            height as u32,
            image::ExtendedColorType::L8,
        )
        .ok()?;
    Some(format!("data:image/png;base64,{}", STANDARD.encode(file)))
}
