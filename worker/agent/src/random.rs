//! The worker's own random numbers, all from one seed, so that a simulation can repeat them.
//! Training has its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of random numbers; clones go on with the same one.
#[derive(Clone, Debug)]
pub(super) struct Random(Arc<Mutex<ChaCha8Rng>>);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed))))
    }

    /// Any number.
    pub(super) fn number(&self) -> u64 {
        let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rng.next_u64()
    }

    /// Uniform in `[0.5, 1)`.
    fn upper_half(&self) -> f64 {
        // 52 random bits after the point, and a half.
        0.5 + (self.number() >> 12) as f64 / (1_u64 << 53) as f64
    }
}

/// Waiting times that double from 100 ms to 2 s, each with a random part, so that the workers of a fleet do
/// not come back all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    longest: Duration,
    random: Random,
}

impl Backoff {
    pub(super) fn new(random: &Random) -> Self {
        Self {
            longest: Duration::from_millis(100),
            random: random.clone(),
        }
    }

    pub(super) fn next(&mut self) -> Duration {
        let wait = self.longest.mul_f64(self.random.upper_half());
        self.longest = (self.longest * 2).min(Duration::from_secs(2));
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_waits_the_same_times_which_double_up_to_a_limit() {
        let waits = |seed| {
            let mut backoff = Backoff::new(&Random::new(seed));
            std::iter::repeat_with(|| backoff.next())
                .take(8)
                .collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
        let limits = [100, 200, 400, 800, 1600, 2000, 2000, 2000];
        for (wait, limit) in waits(3).into_iter().zip(limits) {
            let limit = Duration::from_millis(limit);
            assert!((limit / 2..=limit).contains(&wait), "{wait:?} {limit:?}");
        }
    }
}
