//! From probabilities to scores. All sums are f64, as those of `numpy.average` with weights are.

use super::{ClassScores, RunScores, Scores, SplitReport, normalised};
use crate::dataset::Split;
use crate::ids::RunName;

/// What a member says about all images of a split.
#[derive(Clone, Debug)]
pub struct Prediction<'a> {
    /// The run.
    pub run: RunName,
    /// Its weight in the ensemble, relative to the others'.
    pub weight: f64,
    /// Softmax outputs, `[images, classes]`, row-major.
    pub probabilities: &'a [f32],
}

/// Why predictions cannot be evaluated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MetricsError {
    /// No mean can be taken over nothing.
    #[error("there are no images or no predictions")]
    Empty,
    /// Not one row per image.
    #[error("run {run} predicts {found} probabilities for {images} images and {classes} classes")]
    Shape {
        /// The run.
        run: RunName,
        /// Probabilities found.
        found: usize,
        /// Images of the split.
        images: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A probability that is none.
    #[error("run {run} predicts a probability of {value} for image {image}")]
    Probability {
        /// The run.
        run: RunName,
        /// Index of the image.
        image: usize,
        /// The value.
        value: f32,
    },
    /// A label without a class.
    #[error("image {image} has label {label}, but there are only {classes} classes")]
    Label {
        /// Index of the image.
        image: usize,
        /// The label.
        label: u8,
        /// Number of classes.
        classes: usize,
    },
    /// The weights have no sum to divide by.
    #[error("the ensemble weights must be finite, not negative and not all 0")]
    Weights,
}

impl SplitReport {
    /// Evaluates the members and their ensemble on one split.
    ///
    /// The ensemble is the weighted mean of the probabilities. The predicted class is the first of those with
    /// the highest probability. The loss is Keras' categorical cross-entropy: the logarithm of the class's
    /// probability, clipped to `[1e-7, 1 - 1e-7]`.
    ///
    /// # Errors
    /// Inputs that do not fit together, or probabilities that are not in `[0, 1]`.
    pub fn compute(
        split: Split,
        classes: &[String],
        labels: &[u8],
        predictions: &[Prediction<'_>],
    ) -> Result<Self, MetricsError> {
        check(classes.len(), labels, predictions)?;
        let ensemble = ensemble(predictions);
        let mut runs = Vec::with_capacity(predictions.len());
        for prediction in predictions {
            let probabilities: Vec<f64> = prediction
                .probabilities
                .iter()
                .map(|&p| f64::from(p))
                .collect();
            let matrix = confusion_matrix(classes.len(), labels, &probabilities);
            let scores = scores(&matrix, labels, &probabilities);
            runs.push(RunScores {
                run: prediction.run.clone(),
                scores,
            });
        }
        let confusion_matrix = confusion_matrix(classes.len(), labels, &ensemble);
        let per_class = per_class(classes, &confusion_matrix);
        Ok(Self {
            split,
            images: labels.len() as u64,
            ensemble: scores(&confusion_matrix, labels, &ensemble),
            runs,
            macro_f1: macro_f1(&per_class),
            per_class,
            confusion_matrix,
        })
    }

    /// How many images the ensemble is right about.
    #[must_use]
    pub fn correct(&self) -> u64 {
        correct(&self.confusion_matrix)
    }
}

/// The weighted mean of the members' probabilities as `numpy.average` computes it, `[images, classes]`.
///
/// # Panics
/// If the members' lengths differ.
#[must_use]
pub fn ensemble(predictions: &[Prediction<'_>]) -> Vec<f64> {
    let weights: Vec<f64> = predictions
        .iter()
        .map(|prediction| prediction.weight)
        .collect();
    let length = predictions.first().map_or(0, |p| p.probabilities.len());
    let mut mean = vec![0.0; length];
    for (prediction, weight) in predictions.iter().zip(normalised(&weights)) {
        assert_eq!(
            prediction.probabilities.len(),
            length,
            "one row for each image"
        );
        for (sum, &p) in mean.iter_mut().zip(prediction.probabilities) {
            *sum += weight * f64::from(p);
        }
    }
    mean
}

fn check(
    classes: usize,
    labels: &[u8],
    predictions: &[Prediction<'_>],
) -> Result<(), MetricsError> {
    if labels.is_empty() || classes == 0 || predictions.is_empty() {
        return Err(MetricsError::Empty);
    }
    if let Some(image) = labels
        .iter()
        .position(|&label| usize::from(label) >= classes)
    {
        return Err(MetricsError::Label {
            image,
            label: labels[image],
            classes,
        });
    }
    for Prediction {
        run, probabilities, ..
    } in predictions
    {
        if probabilities.len() != labels.len() * classes {
            let (run, found) = (run.clone(), probabilities.len());
            return Err(MetricsError::Shape {
                run,
                found,
                images: labels.len(),
                classes,
            });
        }
        if let Some(at) = probabilities.iter().position(|p| !is_probability(*p)) {
            let (run, value) = (run.clone(), probabilities[at]);
            return Err(MetricsError::Probability {
                run,
                image: at / classes,
                value,
            });
        }
    }
    let sum: f64 = predictions.iter().map(|prediction| prediction.weight).sum();
    let valid = predictions
        .iter()
        .all(|prediction| prediction.weight >= 0.0);
    if valid && sum > 0.0 && sum.is_finite() {
        Ok(())
    } else {
        Err(MetricsError::Weights)
    }
}

/// Whether a number is a probability. Rounding may lead a little above 1.
pub(crate) fn is_probability(value: f32) -> bool {
    (0.0..=1.001).contains(&value)
}

/// The index of the first of the highest values.
#[must_use]
pub fn argmax(values: &[f64]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// Images by class (row) and predicted class (column).
fn confusion_matrix(classes: usize, labels: &[u8], probabilities: &[f64]) -> Vec<Vec<u64>> {
    let mut matrix = vec![vec![0; classes]; classes];
    for (&label, row) in labels.iter().zip(probabilities.chunks_exact(classes)) {
        matrix[usize::from(label)][argmax(row)] += 1;
    }
    matrix
}

fn scores(matrix: &[Vec<u64>], labels: &[u8], probabilities: &[f64]) -> Scores {
    const EPSILON: f64 = 1e-7;
    let rows = probabilities.chunks_exact(matrix.len());
    let of_class = labels
        .iter()
        .zip(rows)
        .map(|(&label, row)| row[usize::from(label)]);
    let loss: f64 = of_class
        .map(|p| -p.clamp(EPSILON, 1.0 - EPSILON).ln())
        .sum();
    Scores {
        accuracy: accuracy(matrix),
        loss: loss / labels.len() as f64,
    }
}

/// The diagonal's part of all.
pub(super) fn accuracy(matrix: &[Vec<u64>]) -> f64 {
    ratio(correct(matrix), matrix.iter().flatten().sum())
}

fn correct(matrix: &[Vec<u64>]) -> u64 {
    matrix.iter().enumerate().map(|(i, row)| row[i]).sum()
}

/// Precision, recall and F1 of each class. What is undefined is 0, as with scikit-learn's `zero_division=0`.
pub(super) fn per_class(classes: &[String], matrix: &[Vec<u64>]) -> Vec<ClassScores> {
    let class = |(i, name): (usize, &String)| {
        let correct = matrix[i][i];
        let support: u64 = matrix[i].iter().sum();
        let predicted: u64 = matrix.iter().map(|row| row[i]).sum();
        ClassScores {
            class: name.clone(),
            precision: ratio(correct, predicted),
            recall: ratio(correct, support),
            f1: ratio(2 * correct, support + predicted),
            support,
        }
    };
    classes.iter().enumerate().map(class).collect()
}

pub(super) fn macro_f1(per_class: &[ClassScores]) -> f64 {
    per_class.iter().map(|class| class.f1).sum::<f64>() / per_class.len() as f64
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests;
