//! Commits and completions, and the order of tasks.

use super::*;

#[test]
fn a_commit_in_progress_keeps_the_task_from_the_next_worker() {
    let (mut scheduler, lease) = leased();
    assert_eq!(join(&mut scheduler, "w2", None, 0), Joined::Free);
    let ticket = scheduler.begin_commit(&lease, end_of(1), at(0)).unwrap();
    scheduler.worker_lost(&lease.worker, "it ended", at(1));
    assert!(scheduler.check_lease(&lease).is_err());
    assert_eq!(given(&mut scheduler, 1), []);
    scheduler.end_commit(ticket, CommitEnd::Epoch(committed(1)), at(2));
    let assignment = assign(&mut scheduler, 2).remove(0);
    assert_eq!(assignment.lease.worker, id("w2"));
    assert_eq!(
        assignment.resume,
        end_of(1),
        "what was committed is not lost"
    );
}

#[test]
fn an_upload_is_progress_while_it_comes_farther_than_before() {
    let (mut scheduler, lease) = leased();
    let config = *scheduler.config();
    let stall = config.stall_after.as_secs();
    let stalled = |scheduler: &Scheduler, now| {
        let record = scheduler.record(&lease.task).unwrap();
        record.lease().unwrap().stalled(&config, at(now))
    };
    // A slow link: something comes now and then.
    let ticket = scheduler.begin_commit(&lease, end_of(1), at(0)).unwrap();
    let mut now = 0;
    for bytes in 1..10 {
        now += stall - 1;
        assert_eq!(stalled(&scheduler, now), None);
        scheduler.report_upload(&lease, end_of(1), bytes, at(now));
    }
    scheduler.end_commit(ticket, CommitEnd::GivenUp, at(now));
    assert_eq!(stalled(&scheduler, now + 1), None);
    // Tries without end, none of which comes farther.
    for _ in 0..5 {
        now += stall / 5;
        let reply = beat(&mut scheduler, &lease, 1, now);
        assert_eq!(reply, HeartbeatReply::Accepted);
        let ticket = scheduler.begin_commit(&lease, end_of(1), at(now)).unwrap();
        scheduler.report_upload(&lease, end_of(1), 9, at(now));
        scheduler.end_commit(ticket, CommitEnd::GivenUp, at(now));
        assert!(scheduler.check_lease(&lease).is_ok());
    }
    // The first heartbeat that named the step was progress.
    now += stall / 5;
    assert_eq!(stalled(&scheduler, now), Some(config.stall_after));
    now += config.progress_timeout.as_secs();
    let reply = beat(&mut scheduler, &lease, 1, now);
    assert_eq!(reply, HeartbeatReply::Accepted);
    assert_eq!(scheduler.expire_leases(at(now)).len(), 1);
}

#[test]
fn the_evaluation_does_not_expire_while_predictions_come() {
    let done = |run: &str| RunHistory {
        run: run.parse().unwrap(),
        ..history(1, Some(2), Some(OUTCOME)).runs.remove(0)
    };
    let stored = History {
        runs: vec![done("a"), done("b")],
        ..History::default()
    };
    let mut scheduler = scheduler(&[("a", 1.0), ("b", 1.0)], stored);
    assert_eq!(join(&mut scheduler, "w1", None, 0), Joined::Free);
    let lease = assign(&mut scheduler, 0).remove(0).lease;
    assert_eq!(lease.task, Task::Evaluate);
    let run = |name: &str| name.parse().unwrap();
    let refused = scheduler.begin_keep(&lease, &run("c"), at(0)).unwrap_err();
    assert_eq!(refused.to_string(), "evaluation has no predictions of c");

    let config = *scheduler.config();
    let since_progress = |scheduler: &Scheduler, now| {
        let lease = scheduler.evaluation().lease().unwrap();
        lease.stalled(&config, at(now))
    };
    let mut now = 0;
    for name in ["a", "b"] {
        let ticket = scheduler.begin_keep(&lease, &run(name), at(now)).unwrap();
        let place = ticket.place();
        for again in ["a", "b"] {
            let busy = scheduler.begin_keep(&lease, &run(again), at(now));
            assert!(matches!(busy, Err(Refusal::Busy { .. })), "{busy:?}");
        }
        assert!(scheduler.begin_complete(&lease, at(now)).is_err());
        // Bytes come, and no heartbeats.
        for bytes in 1..5 {
            now += config.lease.as_secs() + 1;
            assert_eq!(scheduler.expire_leases(at(now)), []);
            scheduler.report_upload(&lease, place, bytes, at(now));
            assert_eq!(since_progress(&scheduler, now), None);
        }
        scheduler.end_keep(ticket, true, at(now));
        now += config.lease.as_secs() - 1;
        assert_eq!(scheduler.expire_leases(at(now)), []);
    }
    // Bytes that came before are no progress.
    let since = now - (config.lease.as_secs() - 1);
    now = since + config.stall_after.as_secs();
    let ticket = scheduler.begin_keep(&lease, &run("a"), at(now)).unwrap();
    scheduler.report_upload(&lease, ticket.place(), 9, at(now));
    scheduler.end_keep(ticket, false, at(now));
    assert_eq!(since_progress(&scheduler, now), Some(config.stall_after));
    // Without a pin it is silence that counts.
    now += config.lease.as_secs() + 1;
    assert_eq!(scheduler.expire_leases(at(now)).len(), 1);
    assert!(scheduler.begin_keep(&lease, &run("a"), at(now)).is_err());
}

#[test]
fn epochs_are_committed_once_in_order_and_one_at_a_time() {
    let (mut scheduler, lease) = leased();
    let refusal = |scheduler: &mut Scheduler, epoch| {
        scheduler
            .begin_commit(&lease, end_of(epoch), at(0))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refusal(&mut scheduler, 2),
        "epoch 2 of a is out of order: epoch 1 is next"
    );
    assert_eq!(refusal(&mut scheduler, 3), "a has no epoch 3");
    let ticket = scheduler.begin_commit(&lease, end_of(1), at(0)).unwrap();
    let busy = "another upload or completion of a (attempt 1) of worker w1 is in progress";
    assert_eq!(refusal(&mut scheduler, 1), busy);
    scheduler.end_commit(ticket, CommitEnd::GivenUp, at(0));
    commit(&mut scheduler, &lease, 1, 0);
    assert_eq!(
        refusal(&mut scheduler, 1),
        "epoch 1 of a is committed already"
    );
    let early = scheduler.begin_complete(&lease, at(0)).unwrap_err();
    assert_eq!(
        early.to_string(),
        "a is not complete with 1 committed epochs"
    );
}

#[test]
fn the_evaluation_follows_the_last_run_and_ends_the_experiment() {
    let (mut scheduler, lease) = leased();
    commit(&mut scheduler, &lease, 1, 1);
    commit(&mut scheduler, &lease, 2, 2);
    let ticket = scheduler.begin_complete(&lease, at(3)).unwrap().unwrap();
    scheduler.end_complete(ticket, DONE, at(3));
    assert_eq!(
        scheduler.begin_complete(&lease, at(4)),
        Ok(None),
        "it may not have heard"
    );
    assert_eq!(scheduler.experiment_state(), ExperimentState::Evaluating);
    let lease = assign(&mut scheduler, 4).remove(0).lease;
    assert_eq!(lease.task, Task::Evaluate);
    let no_epochs = scheduler
        .begin_commit(&lease, end_of(1), at(4))
        .unwrap_err();
    assert!(
        matches!(no_epochs, Refusal::NoSuchPosition { .. }),
        "{no_epochs:?}"
    );
    let ticket = scheduler.begin_complete(&lease, at(5)).unwrap().unwrap();
    scheduler.end_complete(ticket, Some(Completion::Evaluated), at(5));
    assert_eq!(scheduler.experiment_state(), ExperimentState::Finished);
}

#[test]
fn a_run_resumes_from_its_mid_epoch_checkpoint() {
    let (mut scheduler, lease) = leased();
    let within = |epoch, step| Position::within(Epoch(epoch), step);
    commit_step(&mut scheduler, &lease, within(1, 10), 0);
    commit_step(&mut scheduler, &lease, within(1, 20), 0);
    for old in [within(1, 10), within(1, 20)] {
        let refused = scheduler.begin_commit(&lease, old, at(0)).unwrap_err();
        assert!(
            matches!(refused, Refusal::AlreadyCommitted { .. }),
            "{refused}"
        );
    }
    let refused = scheduler
        .begin_commit(&lease, within(2, 1), at(0))
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "epoch 2, step 1 of a is out of order: epoch 1 is next"
    );
    commit(&mut scheduler, &lease, 1, 1);
    commit_step(&mut scheduler, &lease, within(2, 5), 2);
    let refused = scheduler
        .begin_commit(&lease, within(3, 1), at(0))
        .unwrap_err();
    assert!(
        matches!(refused, Refusal::NoSuchPosition { .. }),
        "{refused}"
    );
    scheduler.release(&lease, at(3)).unwrap();
    assert_eq!(join(&mut scheduler, "w2", None, 3), Joined::Free);
    assert_eq!(assign(&mut scheduler, 3)[0].resume, within(2, 5));
}

#[test]
fn the_last_epochs_are_remembered_for_people() {
    let (mut scheduler, lease) = leased();
    let recent = |scheduler: &Scheduler| -> Vec<u32> {
        let epochs = scheduler.runs()[0].recent_epochs();
        epochs.map(|(epoch, _)| epoch.0).collect()
    };
    for epoch in 1..=2 {
        commit_step(&mut scheduler, &lease, Position::within(Epoch(epoch), 3), 0);
        commit(&mut scheduler, &lease, epoch, 0);
    }
    assert_eq!(recent(&scheduler), [1, 2]);
    let run = &mut scheduler.runs[0];
    run.roll_back(
        Committed::end_of(Epoch(1), committed(1)),
        "corrupt".into(),
        at(1),
    );
    assert_eq!(recent(&scheduler), [1]);
    for epoch in 2..=40 {
        let run = &mut scheduler.runs[0];
        run.commit(Committed::end_of(Epoch(epoch), committed(epoch)));
    }
    assert_eq!(recent(&scheduler), (25..=40).collect::<Vec<_>>());
}
