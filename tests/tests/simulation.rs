//! A thousand fleets in which things go wrong, each from its seed. `QUARTET_SEED=17 cargo test --workspace --test simulation` plays
//! one again, with its log on standard error.

use std::env;
use std::ops::Range;

use quartet_tests::simulation::{self, Coverage};

/// Simulates a fleet for each seed; what they went through together.
fn simulate(seeds: Range<u64>) -> Coverage {
    let (mut total, mut problems) = (Coverage::default(), Vec::new());
    for seed in seeds {
        match simulation::run(seed) {
            Ok(coverage) => total += coverage,
            Err(problem) => problems.push(format!("seed {seed}: {problem}")),
        }
    }
    assert!(
        problems.is_empty(),
        "{} seeds: {}",
        problems.len(),
        problems.join("\n")
    );
    total
}

/// Each kind of fault must have fired.
fn simulate_all(seeds: Range<u64>) {
    if let Ok(seed) = env::var("QUARTET_SEED") {
        let seed = seed.parse().expect("QUARTET_SEED is a number");
        if seeds.contains(&seed) {
            quartet_shared::telemetry::init("debug").expect("nobody else logs");
            simulate(seed..seed + 1);
        }
        return;
    }
    let Coverage {
        further_attempts,
        resumed_within,
        further_terms,
        discarded,
        store_failures,
    } = simulate(seeds);
    for fired in [
        further_attempts,
        resumed_within,
        further_terms,
        discarded,
        store_failures,
    ] {
        assert!(fired > 0);
    }
}

#[test]
fn seeds_0_to_499_end_as_if_nothing_had_happened() {
    simulate_all(0..500);
}

#[test]
fn seeds_500_to_999_end_as_if_nothing_had_happened() {
    simulate_all(500..1000);
}
