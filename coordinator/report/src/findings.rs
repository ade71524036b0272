//! What the ensemble's predictions for a split tell beyond the scores of its evaluation.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use quartet_shared::dataset::{Channels, ImageShape, Split};
use quartet_shared::report::argmax;

use crate::calibration::{Bins, Calibration};

/// Mistakes that a report shows of each split.
pub const SHOWN: usize = 24;

/// Largest side of a picture in a report, in pixels: twice as large as it is shown.
const SIDE: u32 = 192;

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

/// An image of the data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Its shape.
    pub shape: ImageShape,
    /// `[height, width, channels]`, row-major.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// The picture as the address of a PNG (`data:image/png;base64,…`), made smaller if it has more than
    /// [`SIDE`] pixels on a side; nothing if the number of pixels is wrong.
    pub(crate) fn address(&self) -> Option<String> {
        let size = [self.shape.width, self.shape.height];
        let [width, height] = size.map(|side| u32::try_from(side).unwrap_or(0));
        let pixels = self.pixels.clone();
        let picture: DynamicImage = match self.shape.channels {
            Channels::Gray => GrayImage::from_raw(width, height, pixels)?.into(),
            Channels::Rgb => RgbImage::from_raw(width, height, pixels)?.into(),
        };
        let picture = match width.max(height) {
            0 => return None,
            1..=SIDE => picture,
            _ => picture.thumbnail(SIDE, SIDE),
        };
        let mut file = Cursor::new(Vec::new());
        picture.write_to(&mut file, ImageFormat::Png).ok()?;
        let file = STANDARD.encode(file.into_inner());
        Some(format!("data:image/png;base64,{file}"))
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
        let decoded = |picture: &Picture| {
            let address = picture.address().unwrap();
            let (_, encoded) = address.split_once("base64,").unwrap();
            image::load_from_memory(&STANDARD.decode(encoded).unwrap()).unwrap()
        };
        let gray = Picture {
            shape: ImageShape::gray([1, 2]),
            pixels: vec![30, 200],
        };
        let expected = GrayImage::from_raw(2, 1, vec![30, 200]).unwrap();
        assert_eq!(decoded(&gray), expected.into());
        let of_colour = |size| ImageShape {
            channels: Channels::Rgb,
            ..ImageShape::gray(size)
        };
        let colour = Picture {
            shape: of_colour([1, 2]),
            pixels: vec![1, 2, 3, 200, 100, 0],
        };
        let expected = RgbImage::from_raw(2, 1, colour.pixels.clone()).unwrap();
        assert_eq!(decoded(&colour), expected.into());
        let large = Picture {
            shape: of_colour([200, 400]),
            pixels: [9, 90, 200].repeat(200 * 400),
        };
        let expected = RgbImage::from_pixel(192, 96, image::Rgb([9, 90, 200]));
        assert_eq!(decoded(&large), expected.into());
        for size in [[2, 2], [0, 0]] {
            let wrong = Picture {
                shape: ImageShape::gray(size),
                pixels: gray.pixels[..size[0]].to_vec(),
            };
            assert_eq!(wrong.address(), None);
        }
    }
}
