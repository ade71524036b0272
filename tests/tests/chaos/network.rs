//! A real network that is gone: a worker on a host of its own, whose cable is cut.

use quartet_tests::harness::{Harness, Kind, Timers};
use quartet_tests::host::Host;

use crate::undisturbed;
use crate::workers::{drops_its_run_and_is_usable_again, given_away, run_of};

#[test]
fn a_worker_whose_cable_is_cut_loses_its_run_and_is_of_use_when_it_is_mended() {
    let host = match Host::add() {
        Ok(host) => host,
        Err(reason) => return quartet_tests::skip("cable_cut", &reason),
    };
    let mut harness = Harness::new("cable_cut", Kind::Local, Timers::SHORT);
    harness.listen_on(host.here());
    harness.place_worker("one", &host);
    harness.begin(&[]);
    let run = run_of(&mut harness, "one");
    host.cut();
    harness.start_worker("heir");
    let (epoch, _) = given_away(&mut harness, &run, 2);
    // Its silence was noticed; nothing had told of the end of its connection.
    let log = harness.logged("coordinator");
    assert!(log.contains("no heartbeat for"), "{log}");
    host.mend();
    drops_its_run_and_is_usable_again(&mut harness, &run, epoch);
    harness.finish().assert_same(undisturbed());
}
