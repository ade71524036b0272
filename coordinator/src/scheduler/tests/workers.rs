//! Workers join, fall silent, stall, and leave.

use super::*;

#[test]
fn the_run_with_the_most_work_left_goes_first_and_spares_stand_by() {
    let mut scheduler = scheduler(
        &[("a", 3.0), ("b", 2.0), ("c", 4.0)],
        history(1, Some(1), None),
    );
    for worker in ["w1", "w2"] {
        assert_eq!(join(&mut scheduler, worker, None, 0), Joined::Free);
    }
    // One epoch of `a` is left, and its last worker came back without it.
    assert_eq!(join(&mut scheduler, "w0", None, 0), Joined::Free);
    scheduler.drain(&id("w0"), DrainCause::SentHome).unwrap();
    assert_eq!(given(&mut scheduler, 0), [pair("c", "w1"), pair("b", "w2")]);
    for worker in ["w3", "w4"] {
        assert_eq!(join(&mut scheduler, worker, None, 0), Joined::Free);
    }
    let assignments = assign(&mut scheduler, 0);
    assert_eq!(assignments.len(), 1);
    assert_eq!(assignments[0].lease.attempt, Attempt(2));
    assert_eq!(assignments[0].resume, end_of(1));
    assert_eq!(scheduler.idle_workers(), [id("w4")]);
}

#[test]
fn a_silent_worker_loses_its_lease_and_may_come_back_idle() {
    let (mut scheduler, lease) = leased();
    assert_eq!(
        beat(&mut scheduler, &lease, 1, 10),
        HeartbeatReply::Accepted
    );
    assert_eq!(scheduler.expire_leases(at(24)), []);
    assert_eq!(scheduler.next_deadline(at(0)), Some(at(25)));
    let expired = scheduler.expire_leases(at(25));
    assert_eq!(expired[0].reason.to_string(), "no heartbeat for 15 s");
    let refusal = Refusal::StaleLease {
        lease: lease.clone(),
        newest: Attempt(1),
    };
    assert_eq!(
        refusal.to_string(),
        "a (attempt 1) of worker w1 has ended; the newest attempt is 1"
    );
    assert_eq!(
        beat(&mut scheduler, &lease, 2, 26),
        HeartbeatReply::Refused(refusal)
    );
    assert_eq!(
        given(&mut scheduler, 26),
        [],
        "it still works on what it lost"
    );
    assert_eq!(
        scheduler.heartbeat(&id("w1"), None, at(27)),
        Ok(HeartbeatReply::Accepted)
    );
    assert_eq!(given(&mut scheduler, 27), [pair("a", "w1")]);
}

#[test]
fn a_heartbeat_that_does_not_name_the_lease_does_not_renew_it() {
    let (mut scheduler, lease) = leased();
    assert_eq!(
        scheduler.heartbeat(&lease.worker, None, at(14)),
        Ok(HeartbeatReply::Accepted)
    );
    assert_eq!(scheduler.expire_leases(at(15)).len(), 1);
}

#[test]
fn a_live_worker_without_progress_is_replaced() {
    let (mut scheduler, lease) = leased();
    assert_eq!(join(&mut scheduler, "w2", None, 55), Joined::Free);
    for now in (5..60).step_by(5) {
        assert_eq!(
            beat(&mut scheduler, &lease, 1, now),
            HeartbeatReply::Accepted
        );
    }
    assert_eq!(scheduler.expire_leases(at(64)), []);
    assert_eq!(
        beat(&mut scheduler, &lease, 1, 64),
        HeartbeatReply::Accepted
    );
    let expired = scheduler.expire_leases(at(65));
    assert_eq!(expired[0].reason.to_string(), "no progress for 1 min 00 s");
    assert_eq!(given(&mut scheduler, 65), [pair("a", "w2")]);
}

#[test]
fn a_disconnected_worker_keeps_its_lease_until_a_spare_gets_it_or_it_expires() {
    let (mut scheduler, lease) = leased();
    scheduler.disconnected(&lease.worker, at(1));
    assert!(
        scheduler.heartbeat(&lease.worker, None, at(3)).is_err(),
        "it has to join first"
    );
    // No other worker could do it.
    assert_eq!(scheduler.expire_leases(at(14)), []);
    assert_eq!(
        join(&mut scheduler, "w1", Some(&lease), 14),
        Joined::Reattached(lease.clone())
    );
    assert_eq!(scheduler.expire_leases(at(15)), []);
    scheduler.disconnected(&lease.worker, at(20));
    assert_eq!(join(&mut scheduler, "w2", None, 20), Joined::Free);
    assert_eq!(scheduler.next_deadline(at(0)), Some(ms(20_500)));
    assert_eq!(scheduler.expire_leases(ms(20_499)), []);
    let expired = scheduler.expire_leases(ms(20_500));
    assert_eq!(
        expired[0].reason,
        ExpiryReason::Disconnected(Duration::from_millis(500))
    );
    assert_eq!(given(&mut scheduler, 21), [pair("a", "w2")]);
    let joined = join(&mut scheduler, "w1", Some(&lease), 21);
    assert!(
        matches!(joined.refused(), Some(Refusal::StaleLease { .. })),
        "{joined:?}"
    );
    // It is no spare before its old step has ended.
    scheduler
        .release(&live_lease(&scheduler, "a"), at(22))
        .unwrap();
    assert_eq!(given(&mut scheduler, 22), []);
    let free = scheduler.heartbeat(&id("w1"), None, at(23));
    assert_eq!(free, Ok(HeartbeatReply::Accepted));
    assert_eq!(given(&mut scheduler, 23), [pair("a", "w1")]);
}

/// The live lease of a run.
fn live_lease(scheduler: &Scheduler, run: &str) -> LeaseId {
    let run = scheduler.run(&run.parse().unwrap()).unwrap();
    run.record().lease().unwrap().id.clone()
}

#[test]
fn a_spare_that_is_about_to_get_another_task_takes_no_lease_away() {
    let mut scheduler = scheduler(&[("a", 2.0), ("b", 1.0)], History::default());
    assert_eq!(join(&mut scheduler, "w1", None, 0), Joined::Free);
    assert_eq!(given(&mut scheduler, 0), [pair("a", "w1")]);
    scheduler.disconnected(&id("w1"), at(0));
    assert_eq!(join(&mut scheduler, "w2", None, 1), Joined::Free);
    assert_eq!(scheduler.expire_leases(at(1)), []);
    assert_eq!(given(&mut scheduler, 1), [pair("b", "w2")]);
}

#[test]
fn a_run_that_is_lost_for_the_last_time_leaves_the_spare_to_the_next() {
    let mut scheduler = scheduler(&[("a", 2.0), ("b", 1.0)], History::default());
    for now in 0..=5 {
        assert_eq!(join(&mut scheduler, "w1", None, now), Joined::Free);
        assert_eq!(given(&mut scheduler, now), [pair("a", "w1")]);
        if now < 5 {
            scheduler.worker_lost(&id("w1"), "it ended", at(now));
        }
    }
    assert_eq!(join(&mut scheduler, "w2", None, 5), Joined::Free);
    assert_eq!(given(&mut scheduler, 5), [pair("b", "w2")]);
    scheduler.disconnected(&id("w1"), at(6));
    scheduler.disconnected(&id("w2"), at(6));
    assert_eq!(join(&mut scheduler, "w3", None, 6), Joined::Free);
    let expired = scheduler.expire_leases(at(7)).into_iter();
    let ended: Vec<_> = expired.map(|expired| expired.lease.task).collect();
    assert_eq!(ended, [train("a"), train("b")]);
    assert!(matches!(
        scheduler.record(&train("a")).unwrap().stage,
        TaskStage::Failed { .. }
    ));
    assert_eq!(given(&mut scheduler, 7), [pair("b", "w3")]);
}

#[test]
fn a_draining_worker_hands_its_task_back_and_gets_no_more() {
    let (mut scheduler, lease) = leased();
    scheduler.release(&lease, at(1)).unwrap();
    scheduler.disconnected(&lease.worker, at(1));
    assert_eq!(join(&mut scheduler, "w1", None, 2), Joined::Free);
    assert_eq!(given(&mut scheduler, 2), []);
    assert_eq!(join(&mut scheduler, "w2", None, 2), Joined::Free);
    assert_eq!(given(&mut scheduler, 2), [pair("a", "w2")]);
    let run = &scheduler.runs()[0];
    assert_eq!(
        (run.record.counts.worker_losses, run.record.counts.failures),
        (0, 0)
    );
}

#[test]
fn a_lease_that_could_not_be_recorded_has_ended() {
    let (mut scheduler, lease) = leased();
    scheduler.worker_lost(&lease.worker, "it ended", at(0));
    assert_eq!(join(&mut scheduler, "w2", None, 0), Joined::Free);
    let assignment = scheduler.assign(at(0)).remove(0);
    let refused = scheduler.end_grant(&assignment.lease, false, at(0));
    assert!(
        matches!(refused, Err(Refusal::StaleLease { .. })),
        "{refused:?}"
    );
    assert_eq!(given(&mut scheduler, 0), []);
    let next = assign(&mut scheduler, 1).remove(0);
    assert_eq!(next.lease.attempt, Attempt(3), "no attempt is given twice");
    assert_eq!(scheduler.runs()[0].record.counts.worker_losses, 1);
}

#[test]
fn a_worker_that_goes_while_its_lease_is_recorded_loses_it() {
    let (mut scheduler, lease) = leased();
    scheduler.worker_lost(&lease.worker, "it ended", at(0));
    assert_eq!(join(&mut scheduler, "w2", None, 0), Joined::Free);
    let assignment = scheduler.assign(at(0)).remove(0);
    scheduler.worker_lost(&id("w2"), "it ended", at(1));
    assert!(scheduler.end_grant(&assignment.lease, true, at(2)).is_err());
    assert_eq!(join(&mut scheduler, "w3", None, 2), Joined::Free);
    assert_eq!(given(&mut scheduler, 2), [pair("a", "w3")]);
}

#[test]
fn a_worker_on_which_three_runs_fail_gets_no_more_while_another_is_there() {
    let runs = [("a", 3.0), ("b", 2.0), ("c", 1.0)];
    let mut scheduler = scheduler(&runs, History::default());
    assert_eq!(join(&mut scheduler, "w1", None, 0), Joined::Free);
    for run in ["a", "b", "c"] {
        let lease = assign(&mut scheduler, 0).remove(0).lease;
        assert_eq!(lease.task, train(run));
        scheduler
            .fail(&lease, "no memory".to_owned(), at(0))
            .unwrap();
    }
    let worker = scheduler.workers().next().unwrap();
    assert!(worker.is_quarantined(&scheduler.config));
    assert_eq!(join(&mut scheduler, "w2", None, 10), Joined::Free);
    assert_eq!(given(&mut scheduler, 10), [pair("a", "w2")]);
    // The last worker gets tasks even in quarantine.
    scheduler.worker_lost(&id("w2"), "it ended", at(11));
    assert_eq!(given(&mut scheduler, 11), [pair("a", "w1")]);
    let lease = scheduler.lease_of(&id("w1")).unwrap();
    commit(&mut scheduler, &lease, 1, 12);
    let worker = scheduler.workers().find(|w| w.info.id == id("w1")).unwrap();
    assert!(
        !worker.is_quarantined(&scheduler.config),
        "a success resets its failures"
    );
}

#[test]
fn a_worker_that_is_to_drain_gets_no_more() {
    let (mut scheduler, lease) = leased();
    scheduler
        .drain(&lease.worker, DrainCause::SentHome)
        .unwrap();
    commit(&mut scheduler, &lease, 1, 0);
    scheduler.release(&lease, at(1)).unwrap();
    assert_eq!(given(&mut scheduler, 1), []);
    assert!(scheduler.drain(&id("w9"), DrainCause::SentHome).is_err());
}

#[test]
fn a_stall_is_reported_before_the_lease_expires() {
    let (mut scheduler, lease) = leased();
    let config = *scheduler.config();
    let stall = config.stall_after.as_secs();
    for now in 0..stall {
        assert_eq!(
            beat(&mut scheduler, &lease, 1, now),
            HeartbeatReply::Accepted
        );
        assert_eq!(scheduler.report_stalls(at(now)), []);
    }
    assert_eq!(scheduler.next_deadline(at(0)), Some(at(stall)));
    let told = scheduler.report_stalls(at(stall));
    assert_eq!(told, [(lease.clone(), config.stall_after)]);
    assert_eq!(scheduler.report_stalls(at(stall + 1)), []);
    assert_eq!(
        beat(&mut scheduler, &lease, 2, stall + 1),
        HeartbeatReply::Accepted
    );
    let record = scheduler.record(&lease.task).unwrap();
    let stalled = record.lease().unwrap().stalled(&config, at(stall + 2));
    assert_eq!(stalled, None, "it moves again");
}

#[test]
fn a_worker_that_leaves_without_a_lease_is_not_lost() {
    let (mut scheduler, lease) = leased();
    assert_eq!(join(&mut scheduler, "w2", None, 0), Joined::Free);
    scheduler.left(&id("w2"), at(1));
    assert!(scheduler.workers().all(|worker| worker.info.id != id("w2")));
    // A worker that holds a lease may come back with it.
    scheduler.left(&lease.worker, at(1));
    assert_eq!(
        join(&mut scheduler, "w1", Some(&lease), 1),
        Joined::Reattached(lease)
    );
}

#[test]
fn a_task_that_was_handed_back_has_no_reason() {
    let (mut scheduler, lease) = leased();
    let _ = scheduler
        .fail(&lease, "no memory".to_owned(), at(0))
        .unwrap();
    let second = assign(&mut scheduler, 10).remove(0).lease;
    scheduler.release(&second, at(11)).unwrap();
    assert_eq!(scheduler.runs()[0].record().reason(), None);
}

#[test]
fn a_worker_takes_the_place_of_a_lost_one_of_its_name() {
    let (mut scheduler, lease) = leased();
    let again = |id: &str| WorkerInfo {
        name: lease.worker.to_string(),
        ..info(id)
    };
    let ids = |scheduler: &Scheduler| -> Vec<String> {
        let workers = scheduler.workers();
        workers.map(|worker| worker.info.id.to_string()).collect()
    };
    // A worker that may come back, or is connected, is not replaced.
    scheduler.disconnected(&lease.worker, at(0));
    assert_eq!(scheduler.join(again("x1"), None, at(0)), Joined::Free);
    assert_eq!(ids(&scheduler), [lease.worker.as_str(), "x1"]);
    scheduler.worker_lost(&lease.worker, "it ended", at(1));
    assert_eq!(scheduler.join(again("x2"), None, at(1)), Joined::Free);
    assert_eq!(ids(&scheduler), ["x1", "x2"]);
}

#[test]
fn after_a_pause_workers_have_time_to_come_back() {
    let (mut scheduler, lease) = leased();
    assert_eq!(join(&mut scheduler, "spare", None, 10), Joined::Free);
    scheduler.resumed(at(10));
    scheduler.disconnected(&id("w1"), at(11));
    assert_eq!(scheduler.expire_leases(at(14)), []);
    assert_eq!(scheduler.expire_leases(at(15)).len(), 1);
    assert_eq!(given(&mut scheduler, 15), [pair("a", "spare")]);
    assert_eq!(
        join(&mut scheduler, "w1", Some(&lease), 15)
            .refused()
            .map(ToString::to_string),
        Some("a (attempt 1) of worker w1 has ended; the newest attempt is 2".to_owned())
    );
}

#[test]
fn workers_of_one_name_have_numbers_that_stay() {
    let mut scheduler = scheduler(&[("a", 1.0)], History::default());
    let join = |scheduler: &mut Scheduler, id: &str| {
        let info = WorkerInfo {
            name: "cpu@vm".into(),
            ..info(id)
        };
        let _ = scheduler.join(info, None, at(0));
    };
    let labels =
        |scheduler: &Scheduler| -> Vec<String> { scheduler.workers().map(Worker::label).collect() };
    for id in ["x1", "x2", "x3"] {
        join(&mut scheduler, id);
    }
    assert_eq!(labels(&scheduler), ["cpu@vm", "cpu@vm #2", "cpu@vm #3"]);
    // One that leaves gives its number back; one that joins again keeps it.
    scheduler.left(&id("x1"), at(1));
    join(&mut scheduler, "x3");
    assert_eq!(labels(&scheduler), ["cpu@vm #2", "cpu@vm #3"]);
    join(&mut scheduler, "x4");
    assert_eq!(labels(&scheduler), ["cpu@vm #2", "cpu@vm #3", "cpu@vm"]);
}

#[test]
fn a_lost_worker_is_named_until_its_run_is_in_the_store_again() {
    let reason = |scheduler: &Scheduler| scheduler.runs()[0].record().reason().map(str::to_owned);
    let (mut scheduler, lease) = leased();
    let _ = scheduler.expire_leases(at(15));
    let silent = "worker w1 was lost: no heartbeat for 15 s";
    assert_eq!(reason(&scheduler).as_deref(), Some(silent));
    assert_eq!(join(&mut scheduler, "w2", None, 15), Joined::Free);
    let second = assign(&mut scheduler, 15).remove(0).lease;
    assert_eq!(reason(&scheduler).as_deref(), Some(silent));
    commit(&mut scheduler, &second, 1, 16);
    assert_eq!(reason(&scheduler), None);

    scheduler.disconnected(&id("w2"), at(17));
    assert_eq!(join(&mut scheduler, "w3", None, 17), Joined::Free);
    let _ = scheduler.expire_leases(at(18));
    let gone = "worker w2 was lost: it did not come back within 0.5 s";
    assert_eq!(reason(&scheduler).as_deref(), Some(gone));

    let (mut scheduler, _) = leased();
    scheduler.worker_lost(&lease.worker, "it ended", at(1));
    assert_eq!(
        reason(&scheduler).as_deref(),
        Some("worker w1 was lost: it ended")
    );
}

#[test]
fn the_time_of_an_epoch_is_told_by_the_part_that_was_seen() {
    let (mut scheduler, lease) = leased();
    let time = |scheduler: &Scheduler| scheduler.runs()[0].record().lease().unwrap().epoch_time();
    assert_eq!(time(&scheduler), None);
    let _ = beat(&mut scheduler, &lease, 2, 10);
    assert_eq!(time(&scheduler), None, "no part of it was seen");
    let _ = beat(&mut scheduler, &lease, 4, 12);
    assert_eq!(time(&scheduler), Some(Duration::from_secs(10)));
    // Validation is a part of it.
    let validating = Progress {
        phase: Phase::Validating,
        ..scheduler.runs()[0]
            .record()
            .lease()
            .unwrap()
            .progress
            .unwrap()
    };
    let held = Some((lease.clone(), validating));
    let _ = scheduler.heartbeat(&lease.worker, held, at(19)).unwrap();
    assert_eq!(time(&scheduler), Some(Duration::from_secs(9)));
}
