//! Means over an epoch, read from the device only when somebody looks.

use burn::tensor::Tensor;

/// Sums of [`statistics`](super::learner::statistics). Loss and accuracy are means over images, not over batches, as
/// in Keras, where a last short batch counts for less.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pending: Vec<(Tensor<1>, usize)>,
    steps: u32,
    images: usize,
    loss: f64,
    correct: f64,
    not_finite: Option<u32>,
}

/// Means so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Means {
    pub(crate) loss: f64,
    pub(crate) accuracy: f64,
}

impl Meter {
    /// Adds a batch of `images` images; `statistics` stays on the device.
    pub(crate) fn push(&mut self, statistics: Tensor<1>, images: usize) {
        self.pending.push((statistics, images));
    }

    /// Waits for the device and returns the means; there must have been a batch. The sums do not depend on when this is
    /// called.
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
                self.images += images;
                self.loss += f64::from(pair[0]) * images as f64;
                self.correct += f64::from(pair[1]);
            }
        }
        let images = self.images as f64;
        Means {
            loss: self.loss / images,
            accuracy: self.correct / images,
        }
    }

    /// The first step, from 1, whose loss is NaN or infinite, among those that were read.
    pub(crate) fn not_finite(&self) -> Option<u32> {
        self.not_finite
    }
}
