//! A real network that is gone: a worker on a host of its own, whose cable is cut.

use quartet_tests::host::Host;
use quartet_tests::scene::{Kind, Scene, Timers};

use crate::undisturbed;
use crate::workers::{drops_its_run_and_is_usable_again, given_away, run_of};

#[test]
fn a_worker_whose_cable_is_cut_loses_its_run_and_is_of_use_when_it_is_mended() {
    let host = match Host::add() {
        Ok(host) => host,
        Err(reason) => return quartet_tests::skip("cable_cut", &reason),
    };
    let mut scene = Scene::new("cable_cut", Kind::Local, Timers::SHORT);
    scene.listen_on(host.here());
    scene.place_worker("one", &host);
    scene.begin(&[]);
    let run = run_of(&mut scene, "one");
    host.cut();
    scene.start_worker("heir");
    let (epoch, _) = given_away(&mut scene, &run, 2);
    // Its silence was noticed; nothing had told of the end of its connection.
    let log = scene.logged("coordinator");
    assert!(log.contains("no heartbeat for"), "{log}");
    host.mend();
    drops_its_run_and_is_usable_again(&mut scene, &run, epoch);
    scene.finish().assert_same(undisturbed());
}
