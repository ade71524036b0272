//! What a member of the ensemble says of the evaluated images, as it is kept with the member's checkpoint.
//!
//! The file is safetensors, which any framework reads: for each evaluated split that has images a tensor of
//! its name, f32, `[images, classes]`, row-major, in the order of [`EVALUATED`]; nothing else. What comes
//! before the numbers follows from the data set alone, so that a reader finds a row without parsing anything.

use std::ops::Range;

use crate::dataset::{Dataset, Split, Summary};
use crate::report::{EVALUATED, is_probability};

/// So much may a sum of probabilities differ from 1.
const SUM_TOLERANCE: f32 = 0.01;

/// Bytes of a probability.
const WIDTH: u64 = 4;

/// What the tensors of a data set's predictions are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The evaluated splits that have images, and how many.
    splits: Vec<(Split, u64)>,
    classes: u64,
}

/// A member's softmax outputs for all images of the evaluated splits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// For each split of the shape `[images, classes]`, row-major.
    pub splits: Vec<Vec<f32>>,
}

/// Why bytes are not the predictions for a data set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPredictions {
    /// The size is not that of the data set's predictions.
    #[error("{found} bytes, and predictions for this data set have {expected}")]
    Size {
        /// Bytes there are.
        found: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// The beginning is not that of the data set's predictions.
    #[error("the header is not that of predictions for this data set")]
    Header,
    /// A number that is no probability.
    #[error("image {image} of the {split} split has a probability of {value}")]
    Probability {
        /// The split.
        split: Split,
        /// Index of the image.
        image: u64,
        /// The number, as text.
        value: String,
    },
    /// Probabilities that do not add up to 1.
    #[error("the probabilities of image {image} of the {split} split add up to {sum}")]
    Sum {
        /// The split.
        split: Split,
        /// Index of the image.
        image: u64,
        /// The sum, as text.
        sum: String,
    },
}

impl Shape {
    /// The shape for a data set with so many images in each split, in the order of [`Split::ALL`].
    #[must_use]
    pub fn new(images: [u64; 3], classes: usize) -> Self {
        let splits = EVALUATED.map(|split| (split, images[split as usize]));
        Self {
            splits: splits
                .into_iter()
                .filter(|(_, images)| *images > 0)
                .collect(),
            classes: classes as u64,
        }
    }

    /// The shape for a data set.
    #[must_use]
    pub fn of(dataset: &Dataset) -> Self {
        let images = Split::ALL.map(|split| dataset.len(split) as u64);
        Self::new(images, dataset.classes.len())
    }

    /// The shape for the data set of a summary.
    #[must_use]
    pub fn of_summary(summary: &Summary) -> Self {
        let images = Split::ALL.map(|split| summary.split(split).iter().sum());
        Self::new(images, summary.classes.len())
    }

    /// The evaluated splits that have images, and how many.
    #[must_use]
    pub fn splits(&self) -> &[(Split, u64)] {
        &self.splits
    }

    /// How many classes there are.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes as usize
    }

    /// What a file of predictions begins with.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        let tensors = self.splits.iter().map(|&(split, images)| {
            let (start, end) = (self.offset(split, 0), self.offset(split, images));
            let shape = format!("[{images},{}]", self.classes);
            format!("\"{split}\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{start},{end}]}}")
        });
        let tensors = tensors.collect::<Vec<_>>().join(",");
        let mut json = format!("{{{tensors}}}").into_bytes();
        // As other writers do, so that the numbers are aligned.
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut header = (json.len() as u64).to_le_bytes().to_vec();
        header.append(&mut json);
        header
    }

    /// Where the row of an image begins, after the header.
    fn offset(&self, split: Split, image: u64) -> u64 {
        let before = self.splits.iter().take_while(|(other, _)| *other != split);
        let images: u64 = before.map(|(_, images)| images).sum();
        (images + image) * self.classes * WIDTH
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        let images: u64 = self.splits.iter().map(|(_, images)| images).sum();
        self.header().len() as u64 + images * self.classes * WIDTH
    }

    /// The bytes of the rows of some images of a split.
    #[must_use]
    pub fn rows(&self, split: Split, images: &Range<u64>) -> Range<u64> {
        let header = self.header().len() as u64;
        header + self.offset(split, images.start)..header + self.offset(split, images.end)
    }

    /// The probabilities in the bytes of whole rows, of which the first is that of image `first`.
    ///
    /// # Errors
    /// A number is no probability, or those of an image do not add up to 1.
    pub fn read_rows(
        &self,
        split: Split,
        first: u64,
        bytes: &[u8],
    ) -> Result<Vec<f32>, InvalidPredictions> {
        let numbers = bytes
            .as_chunks()
            .0
            .iter()
            .map(|four| f32::from_le_bytes(*four));
        let numbers: Vec<f32> = numbers.collect();
        for (image, row) in (first..).zip(numbers.chunks(self.classes().max(1))) {
            if let Some(value) = row.iter().find(|value| !is_probability(**value)) {
                let value = value.to_string();
                return Err(InvalidPredictions::Probability {
                    split,
                    image,
                    value,
                });
            }
            let sum: f32 = row.iter().sum();
            if (sum - 1.0).abs() > SUM_TOLERANCE {
                let sum = sum.to_string();
                return Err(InvalidPredictions::Sum { split, image, sum });
            }
        }
        Ok(numbers)
    }
}

impl Predictions {
    /// The file with these predictions, which must have the given shape.
    #[must_use]
    pub fn encode(&self, shape: &Shape) -> Vec<u8> {
        let mut bytes = shape.header();
        for probabilities in &self.splits {
            bytes.extend(probabilities.iter().flat_map(|p| p.to_le_bytes()));
        }
        bytes
    }

    /// Reads a file of predictions.
    ///
    /// # Errors
    /// It is not one for the data set of this shape.
    pub fn decode(bytes: &[u8], shape: &Shape) -> Result<Self, InvalidPredictions> {
        let (found, expected) = (bytes.len() as u64, shape.size());
        if found != expected {
            return Err(InvalidPredictions::Size { found, expected });
        }
        let mut rest = bytes
            .strip_prefix(&shape.header()[..])
            .ok_or(InvalidPredictions::Header)?;
        let mut splits = Vec::with_capacity(shape.splits.len());
        for &(split, images) in &shape.splits {
            let rows = shape.rows(split, &(0..images));
            // The size is right.
            let (rows, after) = rest.split_at((rows.end - rows.start) as usize);
            splits.push(shape.read_rows(split, 0, rows)?);
            rest = after;
        }
        Ok(Self { splits })
    }
}

#[cfg(test)]
mod tests {
    use safetensors::{Dtype, SafeTensors};

    use super::*;

    fn example() -> (Shape, Predictions) {
        let shape = Shape::new([5, 2, 3], 2);
        let splits = vec![vec![0.25, 0.75, 1.0, 0.0], vec![0.5; 6]];
        (shape, Predictions { splits })
    }

    #[test]
    fn other_programs_read_the_file() {
        let (shape, predictions) = example();
        let bytes = predictions.encode(&shape);
        assert_eq!(bytes.len() as u64, shape.size());
        // Programs that are built apart must agree on these bytes.
        let header = "{\"valid\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},\
                      \"test\":{\"dtype\":\"F32\",\"shape\":[3,2],\"data_offsets\":[16,40]}}";
        assert_eq!(bytes[8..][..header.len()], *header.as_bytes());
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), 2);
        let valid = file.tensor("valid").unwrap();
        assert_eq!((valid.dtype(), valid.shape()), (Dtype::F32, &[2, 2][..]));
        let expected: Vec<u8> = [0.25_f32, 0.75, 1.0, 0.0]
            .iter()
            .flat_map(|p| p.to_le_bytes())
            .collect();
        assert_eq!(valid.data(), expected);
        assert_eq!(file.tensor("test").unwrap().shape(), [3, 2]);
    }

    #[test]
    fn what_is_written_is_read() {
        let (shape, predictions) = example();
        let bytes = predictions.encode(&shape);
        assert_eq!(Predictions::decode(&bytes, &shape), Ok(predictions));
        let rows = shape.rows(Split::Valid, &(1..2));
        let row = &bytes[rows.start as usize..rows.end as usize];
        assert_eq!(shape.read_rows(Split::Valid, 1, row), Ok(vec![1.0, 0.0]));
        assert_eq!(shape.rows(Split::Test, &(0..3)).end, shape.size());
    }

    #[test]
    fn probabilities_add_up_to_1() {
        let (shape, mut predictions) = example();
        predictions.splits[0][2] = 0.75;
        let (split, image, sum) = (Split::Valid, 1, "0.75".to_owned());
        assert_eq!(
            Predictions::decode(&predictions.encode(&shape), &shape),
            Err(InvalidPredictions::Sum { split, image, sum })
        );
    }

    #[test]
    fn a_split_without_images_has_no_tensor() {
        let shape = Shape::new([5, 0, 1], 2);
        assert_eq!(shape.splits(), [(Split::Test, 1)]);
        let predictions = Predictions {
            splits: vec![vec![0.5, 0.5]],
        };
        let bytes = predictions.encode(&shape);
        assert_eq!(SafeTensors::deserialize(&bytes).unwrap().names(), ["test"]);
        assert_eq!(Predictions::decode(&bytes, &shape), Ok(predictions));
    }

    #[test]
    fn other_bytes_are_refused() {
        let (shape, predictions) = example();
        let bytes = predictions.encode(&shape);
        let (found, expected) = (shape.size() - 4, shape.size());
        let shorter = Predictions::decode(&bytes[..found as usize], &shape);
        assert_eq!(shorter, Err(InvalidPredictions::Size { found, expected }));
        // As many numbers, and other splits.
        let other = Shape::new([5, 3, 2], 2);
        assert_eq!(
            Predictions::decode(&bytes, &other),
            Err(InvalidPredictions::Header)
        );
        for (value, text) in [(f32::NAN, "NaN"), (-0.25, "-0.25"), (1.5, "1.5")] {
            let mut wrong = predictions.clone();
            wrong.splits[1][3] = value;
            assert_eq!(
                Predictions::decode(&wrong.encode(&shape), &shape),
                Err(InvalidPredictions::Probability {
                    split: Split::Test,
                    image: 1,
                    value: text.to_owned()
                })
            );
        }
    }
}
