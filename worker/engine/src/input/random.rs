//! Random numbers as pure functions of where they are used, so that a resumed run draws what the killed one
//! would have.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use quartet_shared::ids::Epoch;

/// What random numbers are for: each use has streams of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// Order of the training images; the index is the pass over the data within the epoch.
    Order = 1,
    /// Augmentation; the index is the image's.
    Augmentation = 2,
    /// Dropout masks; the index is the step's.
    Dropout = 3,
}

/// The stream of one purpose at one place of a run. All of it is in ChaCha's key, so no two streams are
/// related.
pub(crate) fn stream(purpose: Purpose, seed: u64, epoch: Epoch, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    let words = [seed, purpose as u64, u64::from(epoch.0), index];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Uniform in `[low, high)`, from 53 random bits.
pub(crate) fn uniform(rng: &mut impl Rng, low: f64, high: f64) -> f64 {
    let unit = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    low + (high - low) * unit
}

/// Uniform in `0..n` (Lemire's multiplication; its bias is below `n / 2^64`).
pub(crate) fn below(rng: &mut impl Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_in_everything_that_names_them() {
        let first =
            |purpose, seed, epoch, index| stream(purpose, seed, Epoch(epoch), index).next_u64();
        let all = [
            first(Purpose::Order, 1, 1, 0),
            first(Purpose::Augmentation, 1, 1, 0),
            first(Purpose::Order, 2, 1, 0),
            first(Purpose::Order, 1, 2, 0),
            first(Purpose::Order, 1, 1, 1),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn numbers_stay_in_their_range() {
        let mut rng = stream(Purpose::Order, 0, Epoch(0), 0);
        for n in 1..1000 {
            assert!(below(&mut rng, n) < n);
            assert!((-0.5..2.0).contains(&uniform(&mut rng, -0.5, 2.0)));
        }
    }
}
