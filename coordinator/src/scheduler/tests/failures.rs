//! Tasks that fail, and what counts against them.

use super::*;

#[test]
fn a_failed_task_waits_and_then_goes_to_another_worker() {
    let (mut scheduler, lease) = leased();
    assert_eq!(join(&mut scheduler, "w2", None, 0), Joined::Free);
    let decision = scheduler
        .fail(&lease, "out of memory".into(), at(0))
        .unwrap();
    assert_eq!(
        decision,
        FailDecision::Retry {
            not_before: at(1),
            failures: 1
        }
    );
    assert_eq!(given(&mut scheduler, 0), []);
    assert_eq!(scheduler.next_deadline(), Some(at(1)));
    assert_eq!(given(&mut scheduler, 1), [pair("a", "w2")]);
}

#[test]
fn a_rejected_task_is_not_tried_again() {
    let (mut scheduler, lease) = leased();
    let reason = "vgg16.h5 is not a file of weights";
    scheduler.reject(&lease, reason.into(), at(0)).unwrap();
    let run = scheduler.run(&"a".parse().unwrap()).unwrap();
    assert_eq!(
        run.record.stage,
        TaskStage::Failed {
            reason: reason.to_owned()
        }
    );
    assert_eq!(given(&mut scheduler, 100), []);
    assert!(scheduler.reject(&lease, reason.into(), at(100)).is_err());
}

#[test]
fn failures_back_off_and_the_last_is_final() {
    let config = Config::default();
    let waits: Vec<_> = (1..=7).map(|n| config.backoff_after(n).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);

    let (mut scheduler, mut lease) = leased();
    for now in [100, 200, 300] {
        assert_eq!(
            join(&mut scheduler, "w1", Some(&lease), now),
            Joined::Reattached(lease.clone())
        );
        let decision = scheduler.fail(&lease, "it broke".into(), at(now)).unwrap();
        assert!(
            matches!(decision, FailDecision::Retry { .. }),
            "{decision:?}"
        );
        lease = assign(&mut scheduler, now + 10).remove(0).lease;
    }
    let decision = scheduler.fail(&lease, "it broke".into(), at(400));
    assert_eq!(decision, Ok(FailDecision::Final));
    let reasons = vec!["a: failed 4 times; the last: it broke".to_owned()];
    assert_eq!(scheduler.experiment_state(), ExperimentState::Failed);
    assert_eq!(scheduler.failures(), reasons);
}

#[test]
fn a_failed_run_does_not_stop_the_others() {
    let mut scheduler = scheduler(&[("a", 2.0), ("b", 1.0)], History::default());
    scheduler.config.max_failures = 0;
    assert_eq!(join(&mut scheduler, "w1", None, 0), Joined::Free);
    let lease = assign(&mut scheduler, 0).remove(0).lease;
    assert_eq!(
        scheduler.fail(&lease, "no".into(), at(0)),
        Ok(FailDecision::Final)
    );
    assert_eq!(scheduler.experiment_state(), ExperimentState::Training);
    let lease = assign(&mut scheduler, 0).remove(0).lease;
    commit(&mut scheduler, &lease, 1, 0);
    commit(&mut scheduler, &lease, 2, 0);
    let ticket = scheduler.begin_complete(&lease, at(0)).unwrap().unwrap();
    scheduler.end_complete(ticket, DONE, at(0));
    assert_eq!(scheduler.evaluation().state(), TaskState::Blocked);
    assert!(scheduler.experiment_state().has_ended());
}

#[test]
fn a_commit_resets_the_failure_counts() {
    let (mut scheduler, mut lease) = leased();
    for now in 1..20 {
        let now = now * 100;
        assert_eq!(
            join(&mut scheduler, "w1", Some(&lease), now).refused(),
            None
        );
        let decision = scheduler.fail(&lease, "it broke".into(), at(now)).unwrap();
        assert!(
            matches!(decision, FailDecision::Retry { .. }),
            "{decision:?}"
        );
        lease = assign(&mut scheduler, now + 50).remove(0).lease;
        let position = Position::within(Epoch(1), u32::try_from(now).unwrap());
        commit_step(&mut scheduler, &lease, position, now + 50);
    }
}

#[test]
fn a_run_that_fails_on_three_workers_has_failed() {
    let (mut scheduler, mut lease) = leased();
    for worker in ["w2", "w3"] {
        assert_eq!(join(&mut scheduler, worker, None, 0), Joined::Free);
    }
    for now in [0, 10] {
        let decision = scheduler.fail(&lease, "it broke".into(), at(now)).unwrap();
        assert!(
            matches!(decision, FailDecision::Retry { .. }),
            "{decision:?}"
        );
        lease = assign(&mut scheduler, now + 5).remove(0).lease;
    }
    assert_eq!(
        scheduler.fail(&lease, "it broke".into(), at(20)),
        Ok(FailDecision::Final)
    );
    let reasons = vec!["a: failed 3 times on 3 workers; the last: it broke".to_owned()];
    assert_eq!(scheduler.experiment_state(), ExperimentState::Failed);
    assert_eq!(scheduler.failures(), reasons);
}
