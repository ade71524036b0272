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

/// A worker that computes in this precision alone.
fn join_with(scheduler: &mut Scheduler, worker: &str, stays: bool, precision: Precision) {
    let info = WorkerInfo {
        stays,
        precisions: vec![precision],
        ..info(worker)
    };
    assert_eq!(scheduler.join(info, None, at(0)), Joined::Free);
}

#[test]
fn workers_that_others_want_get_nothing() {
    let runs = [("a", 3.0), ("b", 2.0), ("c", 1.0)];
    let mut scheduler = scheduler(&runs, History::default());
    join_with(&mut scheduler, "w1", true, Precision::F32);
    join_with(&mut scheduler, "w2", true, Precision::Bf16);
    join_with(&mut scheduler, "w3", false, Precision::F32);
    let reserve = |workers, precision| Some(Reserve { workers, precision });
    // One that leaves instead of looking on is of no use to others, nor is one that computes otherwise.
    let grants = scheduler.assign_but(at(0), reserve(2, Precision::F32));
    let workers: Vec<_> = grants.iter().map(|g| g.lease.worker.as_str()).collect();
    assert_eq!(workers, ["w2", "w3"]);
    assert_eq!(scheduler.at_work(Precision::Bf16), 1);
    assert_eq!(scheduler.at_work(Precision::F32), 0);
    let movable = scheduler.movable();
    assert_eq!(movable, [(id("w1"), vec![Precision::F32])]);
    // Nobody wants it any more.
    let grants = scheduler.assign(at(1));
    assert_eq!(grants[0].lease.worker, id("w1"));
    assert_eq!(scheduler.movable(), []);
}
