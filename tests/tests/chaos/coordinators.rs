//! Faults of the coordinator.

use quartet_tests::scene::Scene;

pub(crate) fn killed(scene: &mut Scene) {
    scene.begin(&[]);
    scene.kill_coordinator();
    scene.start_coordinator();
    // Both workers come back with the runs that they go on training.
    scene.until(|snapshot| {
        let mut runs = snapshot.runs();
        let kept = runs.all(|run| run.worker().is_some() && run.attempt() == 1);
        (snapshot.term() == Some(2) && kept).then_some(())
    });
    scene.expect_attempts(1);
}

pub(crate) fn killed_with_all_workers(scene: &mut Scene) {
    scene.begin(&[]);
    scene.kill_coordinator();
    scene.kill_workers();
    scene.start_coordinator();
    for name in ["three", "four"] {
        scene.start_worker(name);
    }
    scene.until(|snapshot| {
        let mut runs = snapshot.runs();
        let resumed = runs.all(|run| run.attempt() == 2 && run.worker().is_some());
        (snapshot.term() == Some(2) && resumed).then_some(())
    });
    scene.expect_attempts(2);
}
