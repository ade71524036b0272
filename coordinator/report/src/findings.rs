//! What the ensemble's predictions for a split tell beyond the scores of its evaluation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::ImageEncoder as _;
use quartet_shared::dataset::Split;
use quartet_shared::report::argmax;

use crate::calibration::{Bins, Calibration};

/// Mistakes that a report shows of each split.
pub const SHOWN: usize = 24;

/// What the ensemble's predictions for a split tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// The split.
    pub split: Split,
    /// Whether probabilities mean what they say.
    pub calibration: Calibration,
    /// How many predictions are wrong.
    pub wrong: u64,
    /// The wrong predictions of the highest probabilities, the worst one first; of equal ones the first
    /// image.
    pub worst: Vec<Mistake>,
}

/// A wrong prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// Index of the image in its split.
    pub image: u64,
    /// Its class.
    pub label: usize,
    /// The predicted class.
    pub predicted: usize,
    /// The probability of the predicted class.
    pub probability: f64,
    /// The image, if it could be had.
    pub picture: Option<Picture>,
}

/// A gray image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// `width * height` bytes, row-major, 0 for black.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// The picture as the address of a PNG (`data:image/png;base64,…`); nothing if the number of pixels is
    /// wrong.
    pub(crate) fn address(&self) -> Option<String> {
        let (width, height) = (u32::from(self.width), u32::from(self.height));
        // The encoder panics where they differ.
        if self.pixels.is_empty() || self.pixels.len() != (width * height) as usize {
            return None;
        }
        let mut file = Vec::new();
        image::codecs::png::PngEncoder::new(&mut file)
            .write_image(&self.pixels, width, height, image::ExtendedColorType::L8)
            .ok()?;
        Some(format!("data:image/png;base64,{}", STANDARD.encode(file)))
    }
}

/// Takes predictions one by one and keeps what they tell.
#[derive(Clone, Debug)]
pub struct Observer {
    split: Split,
    images: u64,
    bins: Bins,
    wrong: u64,
    worst: Vec<Mistake>,
}

impl Observer {
    /// An observer of the predictions for a split, which come in the order of its images.
    #[must_use]
    pub fn new(split: Split) -> Self {
        Self {
            split,
            images: 0,
            bins: Bins::default(),
            wrong: 0,
            worst: Vec::new(),
        }
    }

    /// Takes the probabilities of the next image, one for each class, and its class.
    pub fn see(&mut self, label: u8, probabilities: &[f64]) {
        let (label, predicted) = (usize::from(label), argmax(probabilities));
        // Rounding may lead a little above 1.
        let probability = probabilities
            .get(predicted)
            .copied()
            .unwrap_or(0.0)
            .min(1.0);
        self.bins.add(probability, predicted == label);
        if predicted != label {
            self.wrong += 1;
            let before = |mistake: &Mistake| mistake.probability >= probability;
            let place = self.worst.partition_point(before);
            if place < SHOWN {
                self.worst.truncate(SHOWN - 1);
                let mistake = Mistake {
                    image: self.images,
                    label,
                    predicted,
                    probability,
                    picture: None,
                };
                self.worst.insert(place, mistake);
            }
        }
        self.images += 1;
    }

    /// What the predictions tell.
    #[must_use]
    pub fn finish(self) -> Findings {
        Findings {
            split: self.split,
            calibration: self.bins.calibration(),
            wrong: self.wrong,
            worst: self.worst,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_mistakes_are_those_of_the_highest_probabilities() {
        let mut observer = Observer::new(Split::Test);
        for (label, first) in [(0, 0.9), (1, 0.8), (0, 0.3), (1, 0.95), (1, 0.8)] {
            observer.see(label, &[first, 1.0 - first]);
        }
        let findings = observer.finish();
        let told = findings.worst.iter();
        let told: Vec<_> = told
            .map(|it| (it.image, it.label, it.predicted, it.probability))
            .collect();
        let expected = [
            (3, 1, 0, 0.95),
            (1, 1, 0, 0.8),
            (4, 1, 0, 0.8),
            (2, 0, 1, 0.7),
        ];
        assert_eq!((told, findings.wrong), (expected.to_vec(), 4));
    }

    #[test]
    fn as_many_are_kept_as_are_shown() {
        let mut observer = Observer::new(Split::Test);
        // Worse and worse, then less so.
        let sure = |image: u32| 0.5 + f64::from(image.min(79 - image)) / 100.0;
        (0..80).for_each(|image| observer.see(1, &[sure(image), 1.0 - sure(image)]));
        let findings = observer.finish();
        assert_eq!(findings.wrong, 80);
        let kept: Vec<u64> = findings.worst.iter().map(|mistake| mistake.image).collect();
        let expected: Vec<u64> = (0..12).flat_map(|i| [39 - i, 40 + i]).collect();
        assert_eq!(kept, expected);
    }

    #[test]
    fn a_picture_has_its_pixels() {
        let picture = Picture {
            width: 2,
            height: 1,
            pixels: vec![30, 200],
        };
        let address = picture.address().unwrap();
        let (_, encoded) = address.split_once("base64,").unwrap();
        let file = STANDARD.decode(encoded).unwrap();
        let image = image::load_from_memory(&file).unwrap().into_luma8();
        assert_eq!(
            (image.dimensions(), &image.as_raw()[..]),
            ((2, 1), &[30, 200][..])
        );
        let short = Picture {
            height: 2,
            ..picture
        };
        assert_eq!(short.address(), None);
    }
}
