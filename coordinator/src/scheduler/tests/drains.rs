//! Workers that are asked to leave, some of which stay for the next coordinator.

use super::*;

fn join_to_stay(scheduler: &mut Scheduler, worker: &str, now: u64) {
    let info = WorkerInfo {
        stays: true,
        ..info(worker)
    };
    assert_eq!(scheduler.join(info, None, at(now)), Joined::Free);
}

fn staying(scheduler: &Scheduler) -> Vec<&str> {
    scheduler.staying().map(WorkerId::as_str).collect()
}

#[test]
fn a_worker_that_stays_and_handed_its_task_back_gets_another_when_it_comes_again() {
    let mut scheduler = scheduler(&[("a", 1.0)], History::default());
    join_to_stay(&mut scheduler, "w1", 0);
    let lease = assign(&mut scheduler, 0).remove(0).lease;
    scheduler.release(&lease, at(1)).unwrap();
    assert_eq!(given(&mut scheduler, 1), [], "it is about to leave");
    scheduler.disconnected(&lease.worker, at(2));
    join_to_stay(&mut scheduler, "w1", 3);
    assert_eq!(given(&mut scheduler, 3), [pair("a", "w1")]);
}

#[test]
fn a_worker_that_was_sent_home_gets_no_more_although_it_stays_otherwise() {
    let mut scheduler = scheduler(&[("a", 1.0)], History::default());
    join_to_stay(&mut scheduler, "w1", 0);
    scheduler.drain(&id("w1"), DrainCause::SentHome).unwrap();
    // It may not have heard of it.
    scheduler.disconnected(&id("w1"), at(1));
    join_to_stay(&mut scheduler, "w1", 2);
    assert!(scheduler.is_sent_home(&id("w1")));
    assert_eq!(given(&mut scheduler, 2), []);
}

#[test]
fn those_stay_that_nobody_sent_home() {
    let (mut scheduler, _) = leased();
    for worker in ["w2", "w3", "w4"] {
        join_to_stay(&mut scheduler, worker, 0);
    }
    assert_eq!(staying(&scheduler), ["w2", "w3", "w4"]);
    for worker in ["w1", "w2", "w3", "w4"] {
        let stops = DrainCause::CoordinatorStops;
        scheduler.drain(&id(worker), stops).unwrap();
    }
    assert_eq!(staying(&scheduler), ["w2", "w3", "w4"]);
    scheduler.drain(&id("w2"), DrainCause::SentHome).unwrap();
    scheduler
        .drain(&id("w2"), DrainCause::CoordinatorStops)
        .unwrap();
    scheduler.left(&id("w4"), at(1));
    assert_eq!(staying(&scheduler), ["w3"]);
}
