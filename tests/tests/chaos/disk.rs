//! A disk that is full.

use quartet_tests::scene::{Scene, Timers};

use crate::undisturbed;

/// Enough for the data set and some checkpoints.
const SIZE: u64 = 64 << 20;

#[test]
fn the_coordinator_ends_when_its_disk_is_full_and_goes_on_when_there_is_space() {
    let timers = Timers::SHORT;
    let mut scene = match Scene::on_small_disk("disk_full", SIZE, timers) {
        Ok(scene) => scene,
        Err(reason) => return quartet_tests::skip("disk_full", &reason),
    };
    scene.begin(&[]);
    // What retention deletes is filled, too.
    scene.disk().fill();
    let status = scene.coordinator_ends(|scene| scene.disk().fill());
    let log = scene.logged("coordinator");
    assert!(
        status.code().is_some_and(|code| code > 0),
        "{status}: {log}"
    );
    let error = log.lines().rev().find(|line| line.starts_with("error: "));
    let error = error.expect("the coordinator says why it ended");
    for words in [&scene.store.location(), "No space left"] {
        assert!(error.contains(words), "{error}");
    }
    scene.disk().free();
    scene.kill_workers();
    scene.start_coordinator();
    for name in ["three", "four"] {
        scene.start_worker(name);
    }
    scene.finish().assert_same(undisturbed());
}
