//! What chance decides in a simulation, all of it from one seed.

use std::sync::{Mutex, PoisonError};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of random decisions.
#[derive(Debug)]
pub(super) struct Dice {
    rng: Mutex<ChaCha8Rng>,
    /// How often a step may still fail.
    failures: Mutex<u32>,
}

impl Dice {
    /// Decisions of this seed.
    #[must_use]
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
            failures: Mutex::new(0),
        }
    }

    /// Any number.
    pub(super) fn number(&self) -> u64 {
        lock(&self.rng).next_u64()
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&self, n: usize) -> usize {
        lock(&self.rng).random_range(0..n)
    }

    /// A number within a range.
    pub(super) fn within(&self, range: std::ops::Range<u64>) -> u64 {
        lock(&self.rng).random_range(range)
    }

    /// True with this probability.
    pub(super) fn chance(&self, probability: f64) -> bool {
        lock(&self.rng).random_bool(probability)
    }

    /// Lets this many steps fail from now on.
    pub(super) fn allow_failures(&self, failures: u32) {
        *lock(&self.failures) = failures;
    }

    /// Whether this step fails.
    pub(super) fn fails(&self) -> bool {
        let mut left = lock(&self.failures);
        let fails = *left > 0 && self.chance(0.05);
        if fails {
            *left -= 1;
        }
        fails
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
