//! A disk that is full.

use quartet_tests::harness::{Harness, Timers};

use crate::undisturbed;

/// Enough for the data set and some checkpoints.
const SIZE: u64 = 64 << 20;

#[test]
fn the_coordinator_ends_when_its_disk_is_full_and_goes_on_when_there_is_space() {
    let timers = Timers::SHORT;
    let mut harness = match Harness::on_small_disk("disk_full", SIZE, timers) {
        Ok(harness) => harness,
        Err(reason) => return quartet_tests::skip("disk_full", &reason),
    };
    harness.begin(&[]);
    // What retention deletes is filled, too.
    harness.disk().fill();
    let status = harness.coordinator_ends(|harness| harness.disk().fill());
    let log = harness.logged("coordinator");
    assert!(
        status.code().is_some_and(|code| code > 0),
        "{status}: {log}"
    );
    let error = log.lines().rev().find(|line| line.starts_with("error: "));
    let error = error.expect("the coordinator says why it ended");
    for words in [&harness.store.location(), "No space left"] {
        assert!(error.contains(words), "{error}");
    }
    harness.disk().free();
    harness.kill_workers();
    harness.start_coordinator();
    for name in ["three", "four"] {
        harness.start_worker(name);
    }
    harness.finish().assert_same(undisturbed());
}
