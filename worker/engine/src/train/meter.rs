//! Means over an epoch, read from the device only when somebody looks.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// The training of an epoch so far: what its metrics will be made of. All sums are finite, as a loss that is not ends the
/// run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sums {
    /// Images.
    pub(crate) images: u64,
    /// Losses of all images.
    pub(crate) loss: f64,
    /// Images that were classified right.
    pub(crate) correct: f64,
    /// Wall time.
    pub(crate) seconds: f64,
}

impl Sums {
    /// The means; there must have been an image.
    pub(crate) fn means(&self) -> Means {
        let images = self.images as f64;
        Means {
            loss: self.loss / images,
            accuracy: self.correct / images,
        }
    }

    pub(crate) fn images_per_second(&self) -> f64 {
        self.images as f64 / self.seconds.max(1e-9)
    }
}

/// Sums of [`statistics`](super::learner::statistics). Loss and accuracy are means over images, not over batches, as
/// in Keras, where a last short batch counts for less.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pending: Vec<(Tensor<1>, usize)>,
    steps: u32,
    sums: Sums,
    not_finite: Option<u32>,
}

/// Means so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Means {
    pub(crate) loss: f64,
    pub(crate) accuracy: f64,
}

impl Meter {
    /// As it was after so many steps.
    pub(crate) fn resumed(steps: u32, sums: Sums) -> Self {
        Self {
            steps,
            sums,
            ..Self::default()
        }
    }

    /// Adds a batch of `images` images; `statistics` stays on the device.
    pub(crate) fn push(&mut self, statistics: Tensor<1>, images: usize) {
        self.pending.push((statistics, images));
    }

    /// Waits for the device, unless nothing is new, and returns the means; there must have been a batch. The sums do not
    /// depend on when this is called.
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
                self.sums.images += images as u64;
                self.sums.loss += f64::from(pair[0]) * images as f64;
                self.sums.correct += f64::from(pair[1]);
            }
        }
        self.sums.means()
    }

    /// The sums that were read, which took so many seconds.
    pub(crate) fn sums(&self, seconds: f64) -> Sums {
        Sums {
            seconds,
            ..self.sums
        }
    }

    /// The first step, from 1, whose loss is NaN or infinite, among those that were read.
    pub(crate) fn not_finite(&self) -> Option<u32> {
        self.not_finite
    }
}
