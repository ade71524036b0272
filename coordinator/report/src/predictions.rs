//! What the ensemble says of single images.

use quartet_shared::dataset::Split;
use quartet_shared::report::EvaluationReport;

/// The ensemble's predictions for all images of a split.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// The split.
    pub split: Split,
    /// The class of each image.
    pub labels: Vec<u8>,
    /// The ensemble's probabilities, `[images, classes]`, row-major.
    pub probabilities: Vec<f32>,
    /// The images, in the order of the labels. Without them the worst mistakes have no pictures.
    pub images: Option<Images>,
}

/// Gray images of one size.
#[derive(Clone, Debug)]
pub struct Images {
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// `width * height` bytes an image, row-major, 0 for black.
    pub pixels: Vec<u8>,
}

/// Why predictions cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPredictions {
    /// There are no images.
    #[error("the predictions of split {0} are of no image")]
    Empty(Split),
    /// Not one row per image.
    #[error("split {split} has {found} probabilities for {images} images and {classes} classes")]
    Shape {
        /// The split.
        split: Split,
        /// Probabilities found.
        found: usize,
        /// Images of the split.
        images: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A number that is no probability.
    #[error("split {split} has a probability outside of 0 to 1 for image {image}")]
    Probability {
        /// The split.
        split: Split,
        /// Index of the image.
        image: usize,
    },
    /// A label without a class.
    #[error(
        "image {image} of split {split} has label {label}, but there are only {classes} classes"
    )]
    Label {
        /// The split.
        split: Split,
        /// Index of the image.
        image: usize,
        /// The label.
        label: u8,
        /// Number of classes.
        classes: usize,
    },
    /// Not one picture per image.
    #[error("split {split} has {found} bytes of pixels, not {expected}")]
    Pixels {
        /// The split.
        split: Split,
        /// Bytes found.
        found: usize,
        /// Bytes that the images must have.
        expected: usize,
    },
}

/// What the ensemble says of one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) label: usize,
    /// The first of the classes with the highest probability.
    pub(crate) predicted: usize,
    /// That probability.
    pub(crate) confidence: f32,
}

impl Predictions {
    /// Checks that the parts fit each other and so many classes.
    ///
    /// # Errors
    /// They do not.
    pub fn check(&self, classes: usize) -> Result<(), InvalidPredictions> {
        let (split, images) = (self.split, self.labels.len());
        if images == 0 || classes == 0 {
            return Err(InvalidPredictions::Empty(split));
        }
        if images.checked_mul(classes) != Some(self.probabilities.len()) {
            let found = self.probabilities.len();
            return Err(InvalidPredictions::Shape {
                split,
                found,
                images,
                classes,
            });
        }
        // Rounding may lead a little above 1.
        let outside = |p: &f32| !(0.0..=1.001).contains(p);
        if let Some(at) = self.probabilities.iter().position(outside) {
            let image = at / classes;
            return Err(InvalidPredictions::Probability { split, image });
        }
        let unknown = |&label: &u8| usize::from(label) >= classes;
        if let Some(image) = self.labels.iter().position(unknown) {
            let label = self.labels[image];
            return Err(InvalidPredictions::Label {
                split,
                image,
                label,
                classes,
            });
        }
        if let Some(Images {
            width,
            height,
            pixels,
        }) = &self.images
        {
            let (expected, found) = (
                images * usize::from(*width) * usize::from(*height),
                pixels.len(),
            );
            if expected != found || expected == 0 {
                return Err(InvalidPredictions::Pixels {
                    split,
                    found,
                    expected,
                });
            }
        }
        Ok(())
    }

    /// The images' rows; the predictions must be valid for so many classes.
    pub(crate) fn rows(&self, classes: usize) -> impl Iterator<Item = Row> {
        let rows = self.probabilities.chunks_exact(classes.max(1));
        self.labels.iter().zip(rows).map(|(&label, row)| {
            let higher = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
            let predicted = (1..row.len()).fold(0, higher);
            Row {
                label: usize::from(label),
                predicted,
                confidence: row[predicted].min(1.0),
            }
        })
    }
}

/// The names of the classes: those of the evaluation, or numbers where there is none.
pub(crate) fn class_names(
    report: Option<&EvaluationReport>,
    predictions: &[Predictions],
) -> Vec<String> {
    if let Some(report) = report {
        return report.classes.clone();
    }
    let columns = |predictions: &Predictions| {
        predictions
            .probabilities
            .len()
            .checked_div(predictions.labels.len())
    };
    let columns = predictions.iter().find_map(columns).unwrap_or(0);
    // A label is a byte.
    (0..columns.min(256))
        .map(|class| format!("class {class}"))
        .collect()
}
