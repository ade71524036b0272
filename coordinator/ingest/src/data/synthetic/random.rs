//! Random numbers whose sequence no dependency's update changes.

use quartet_shared::dataset::Split;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Random numbers of one image, or of the labels of a few.
pub(super) struct Random(ChaCha8Rng);

impl Random {
    pub(super) fn of_image(seed: u64, split: Split, index: usize) -> Self {
        Self::stream(seed, split, index, 0)
    }

    pub(super) fn of_labels(seed: u64, split: Split, block: usize) -> Self {
        Self::stream(seed, split, block, 1)
    }

    fn stream(seed: u64, split: Split, index: usize, purpose: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(((index as u64) << 3) | ((split as u64) << 1) | purpose);
        Self(random)
    }

    pub(super) fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Uniform in `0..count`, up to a bias of `count / 2^32`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        ((u64::from(self.bits()) * count as u64) >> 32) as usize
    }

    /// Uniform between two numbers.
    pub(super) fn uniform(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.bits() >> 8) as f32 / (1 << 24) as f32;
        low + (high - low) * unit
    }

    /// Bell-shaped around 0 with this standard deviation, within 3 of them (a sum of three uniform numbers).
    pub(super) fn bell(&mut self, deviation: f32) -> f32 {
        let sum = self.uniform(-1.0, 1.0) + self.uniform(-1.0, 1.0) + self.uniform(-1.0, 1.0);
        sum * deviation
    }

    pub(super) fn chance(&mut self, probability: f32) -> bool {
        self.uniform(0.0, 1.0) < probability
    }
}
