//! Faults of the coordinator.

use quartet_tests::harness::Harness;

pub(crate) fn killed(harness: &mut Harness) {
    harness.begin(&[]);
    harness.kill_coordinator();
    harness.start_coordinator();
    // Both workers come back with the runs that they go on training.
    harness.until(|snapshot| {
        let mut runs = snapshot.runs();
        let kept = runs.all(|run| run.worker().is_some() && run.attempt() == 1);
        (snapshot.term() == Some(2) && kept).then_some(())
    });
    harness.expect_attempts(1);
}

pub(crate) fn killed_with_all_workers(harness: &mut Harness) {
    harness.begin(&[]);
    harness.kill_coordinator();
    harness.kill_workers();
    harness.start_coordinator();
    for name in ["three", "four"] {
        harness.start_worker(name);
    }
    harness.until(|snapshot| {
        let mut runs = snapshot.runs();
        let resumed = runs.all(|run| run.attempt() == 2 && run.worker().is_some());
        (snapshot.term() == Some(2) && resumed).then_some(())
    });
    harness.expect_attempts(2);
}
