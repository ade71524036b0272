//! Loss and accuracy: of a batch, and as means over an epoch, read from the device only when somebody looks.

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

/// Mean categorical cross-entropy in nats, `[1]`, of logits `[N, classes]` and classes `[N, 1]`; where labels
/// are soft, of their distributions `[N, classes]`. That is Keras' `CategoricalCrossentropy` of logits.
pub(crate) fn cross_entropy(
    logits: Tensor<2>,
    labels: Tensor<2, Int>,
    distributions: Option<Tensor<2>>,
) -> Tensor<1> {
    let [n, classes] = logits.dims();
    let distributions = distributions.unwrap_or_else(|| {
        // 1 for each row's class; the gradient of a gather would be a scatter, which GPUs do in any order.
        let columns = Tensor::arange(0..classes as i64, &labels.device()).reshape([1, classes]);
        let hit = labels
            .expand([n, classes])
            .equal(columns.expand([n, classes]));
        let hit = hit.float().cast(logits.dtype());
        match logits.is_autodiff() {
            true => hit.autodiff(),
            false => hit,
        }
    });
    quartet_kernels::cross_entropy(logits, distributions)
}

/// `[loss, images whose class has the highest logit]`, still on the device.
pub(crate) fn statistics(logits: Tensor<2>, labels: Tensor<2, Int>, loss: Tensor<1>) -> Tensor<1> {
    let correct = logits.argmax(1).equal(labels).int().sum().float();
    Tensor::cat(vec![loss, correct], 0)
}

/// The training of an epoch so far: what its metrics will be made of. All totals are finite, as a loss that
/// is not ends the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct MetricTotals {
    /// Images.
    pub(crate) images: u64,
    /// Losses of all images.
    pub(crate) loss: f64,
    /// Images that were classified right.
    pub(crate) correct: f64,
    /// Wall time.
    pub(crate) seconds: f64,
}

impl MetricTotals {
    /// The means; there must have been an image.
    pub(crate) fn means(&self) -> Means {
        let images = self.images as f64;
        Means {
            loss: self.loss / images,
            accuracy: self.correct / images,
        }
    }

    /// Whether a training can have come to these totals.
    pub(crate) fn are_possible(&self) -> bool {
        (0.0..=self.images as f64).contains(&self.correct)
            && self.loss.is_finite()
            && (0.0..=1e12).contains(&self.seconds)
    }

    pub(crate) fn images_per_second(&self) -> f64 {
        self.images as f64 / self.seconds.max(1e-9)
    }
}

/// Adds up [`statistics`]. Loss and accuracy are means over images, not over batches, as in Keras, where a
/// last short batch counts for less.
#[derive(Debug, Default)]
pub(crate) struct MetricAccumulator {
    pending: Vec<(Tensor<1>, usize)>,
    steps: u32,
    totals: MetricTotals,
    not_finite: Option<u32>,
}

/// Means so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Means {
    pub(crate) loss: f64,
    pub(crate) accuracy: f64,
}

impl MetricAccumulator {
    /// As it was after so many steps.
    pub(crate) fn resumed(steps: u32, totals: MetricTotals) -> Self {
        Self {
            steps,
            totals,
            ..Self::default()
        }
    }

    /// Adds a batch of `images` images; `statistics` stays on the device.
    pub(crate) fn push(&mut self, statistics: Tensor<1>, images: usize) {
        self.pending.push((statistics, images));
    }

    /// Waits for the device, unless nothing is new, and returns the means; there must have been a batch. The
    /// totals do not depend on when this is called.
    pub(crate) fn read(&mut self) -> Means {
        let (tensors, counts): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().unzip();
        if !tensors.is_empty() {
            let values = Tensor::cat(tensors, 0).into_data_as::<f32>();
            let values = values.as_slice::<f32>().expect("converted to f32");
            for (pair, images) in values.chunks_exact(2).zip(counts) {
                self.steps += 1;
                if !pair[0].is_finite() {
                    self.not_finite.get_or_insert(self.steps);
                }
                self.totals.images += images as u64;
                self.totals.loss += f64::from(pair[0]) * images as f64;
                self.totals.correct += f64::from(pair[1]);
            }
        }
        self.totals.means()
    }

    /// The totals that were read, which took so many seconds.
    pub(crate) fn totals(&self, seconds: f64) -> MetricTotals {
        MetricTotals {
            seconds,
            ..self.totals
        }
    }

    /// The first step, from 1, whose loss is NaN or infinite, among those that were read.
    pub(crate) fn not_finite(&self) -> Option<u32> {
        self.not_finite
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    const LOGITS: [[f64; 3]; 2] = [[2.0, 0.5, -1.0], [0.1, 0.2, 0.3]];

    /// -sum(p * log(softmax)), mean over the rows, and its gradient.
    fn expected(distributions: [[f64; 3]; 2]) -> (f64, Vec<f64>) {
        let (mut loss, mut gradient) = (0.0, Vec::new());
        for (logits, parts) in LOGITS.into_iter().zip(distributions) {
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            for (logit, part) in logits.into_iter().zip(parts) {
                loss += part * (sum.ln() - logit) / 2.0;
                gradient.push((logit.exp() / sum - part) / 2.0);
            }
        }
        (loss, gradient)
    }

    #[test]
    fn cross_entropy_is_that_of_keras() {
        let votes = [[0.7, 0.1, 0.2], [0.0, 0.25, 0.75]];
        let sure = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]];
        for device in crate::devices::cpus() {
            for (given, means) in [(Some(votes), votes), (Some(sure), sure), (None, sure)] {
                let of = |rows: [[f64; 3]; 2], device: &Device| {
                    Tensor::<2>::from_data(rows.map(|row| row.map(|x| x as f32)), device)
                };
                let labels = Tensor::<2, Int>::from_data([[0], [2]], &device);
                let loss = |logits: Tensor<2>| {
                    let given = given.map(|rows| of(rows, &logits.device()));
                    cross_entropy(logits, labels.clone(), given)
                };
                let (value, slope) = expected(means);
                // Scaled, as if it were a part of something else.
                let logits = of(LOGITS, &device.clone().autodiff()).require_grad();
                let trained = loss(logits.clone());
                let gradients = trained.clone().mul_scalar(3.0).backward();
                for found in [trained.inner(), loss(of(LOGITS, &device))] {
                    assert_eq!(found.dims(), [1]);
                    let found = f64::from(found.into_scalar::<f32>());
                    assert!((found - value).abs() < 1e-6, "{device:?}: {found}");
                }
                let found = logits.grad(&gradients).expect("they want one").into_data();
                let found = found.try_to_vec::<f32>().unwrap();
                for (found, slope) in found.into_iter().zip(slope) {
                    let distance = (f64::from(found) / 3.0 - slope).abs();
                    assert!(distance < 1e-7, "{device:?}: {found} {slope}");
                }
            }
        }
    }
}
