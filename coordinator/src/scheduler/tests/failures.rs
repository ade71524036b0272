//! Tasks that fail, and what counts against them.

use super::*;

#[test]
fn a_failed_task_waits_and_then_goes_to_another_worker() {
    let (mut scheduler, lease) = leased();
    assert_eq!(join(&mut scheduler, "w2", None, 0), Joined::Free);
    let decision = scheduler
        .fail(&lease, "out of memory".to_owned(), at(0))
        .unwrap();
    assert_eq!(
        decision,
        FailDecision::Retry {
            not_before: at(1),
            failures: 1
        }
    );
    assert_eq!(given(&mut scheduler, 0), []);
    assert_eq!(scheduler.next_deadline(at(0)), Some(at(1)));
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
        let decision = scheduler
            .fail(&lease, "it broke".to_owned(), at(now))
            .unwrap();
        assert!(
            matches!(decision, FailDecision::Retry { .. }),
            "{decision:?}"
        );
        lease = assign(&mut scheduler, now + 10).remove(0).lease;
    }
    let decision = scheduler.fail(&lease, "it broke".to_owned(), at(400));
    assert_eq!(decision, Ok(FailDecision::Final));
    let reasons = vec!["a: failed 4 times; the last: it broke".to_owned()];
    assert_eq!(scheduler.experiment_state(), ExperimentState::Failed);
    assert_eq!(scheduler.failures(), reasons);
}

/// A scheduler whose first run has failed, and whose second has finished.
pub(super) fn half_failed(ensemble: Ensemble) -> Scheduler {
    let mut scheduler = scheduler(&[("a", 2.0), ("b", 1.0)], History::default());
    scheduler.config.max_failures = 0;
    scheduler.config.ensemble = ensemble;
    assert_eq!(join(&mut scheduler, "w1", None, 0), Joined::Free);
    let lease = assign(&mut scheduler, 0).remove(0).lease;
    assert_eq!(
        scheduler.fail(&lease, "no".to_owned(), at(0)),
        Ok(FailDecision::Final)
    );
    assert_eq!(scheduler.experiment_state(), ExperimentState::Training);
    let lease = assign(&mut scheduler, 0).remove(0).lease;
    commit(&mut scheduler, &lease, 1, 0);
    commit(&mut scheduler, &lease, 2, 0);
    let ticket = scheduler.begin_complete(&lease, at(0)).unwrap().unwrap();
    scheduler.end_complete(ticket, DONE, at(0));
    scheduler
}

#[test]
fn a_failed_run_costs_itself() {
    let mut scheduler = half_failed(Ensemble::Finished);
    assert_eq!(scheduler.experiment_state(), ExperimentState::Evaluating);
    let lease = assign(&mut scheduler, 0).remove(0).lease;
    assert_eq!(lease.task, Task::Evaluate);
    let ticket = scheduler.begin_complete(&lease, at(0)).unwrap().unwrap();
    scheduler.end_complete(ticket, Some(Completion::Evaluated), at(0));
    assert_eq!(scheduler.experiment_state(), ExperimentState::Failed);
    let reasons = vec!["a: failed 1 times; the last: no".to_owned()];
    assert_eq!(scheduler.failures(), reasons);
}

#[test]
fn a_failed_run_costs_the_ensemble_where_all_are_wanted() {
    let scheduler = half_failed(Ensemble::All);
    assert_eq!(scheduler.evaluation().state(), TaskState::Blocked);
    assert_eq!(scheduler.experiment_state(), ExperimentState::Failed);
}

#[test]
fn an_ensemble_needs_a_run_with_a_weight() {
    let mut scheduler = scheduler(
        &[("a", 2.0), ("b", 1.0)],
        history(1, Some(2), Some(OUTCOME)),
    );
    scheduler.config.max_failures = 0;
    scheduler.runs[0].settings.has_weight = false;
    assert_eq!(join(&mut scheduler, "w1", None, 0), Joined::Free);
    let lease = assign(&mut scheduler, 0).remove(0).lease;
    assert_eq!(lease.task, train("b"));
    let decision = scheduler.fail(&lease, "no".to_owned(), at(0));
    assert_eq!(decision, Ok(FailDecision::Final));
    assert_eq!(scheduler.experiment_state(), ExperimentState::Failed);
}

/// A loss that is not finite: elsewhere it is tried once more.
#[test]
fn what_another_try_can_only_repeat_is_tried_once_more_elsewhere() {
    let (mut scheduler, lease) = leased();
    assert_eq!(join(&mut scheduler, "w2", None, 0), Joined::Free);
    let failure = || Failure {
        reason: "not finite".to_owned(),
        is_repeatable: true,
    };
    let decision = scheduler.fail(&lease, failure(), at(0)).unwrap();
    assert!(
        matches!(decision, FailDecision::Retry { .. }),
        "{decision:?}"
    );
    let again = assign(&mut scheduler, 1).remove(0).lease;
    assert_eq!(again.worker, id("w2"));
    // From another state it is another failure.
    commit_step(&mut scheduler, &again, Position::within(Epoch(1), 5), 2);
    let decision = scheduler.fail(&again, failure(), at(3)).unwrap();
    assert!(
        matches!(decision, FailDecision::Retry { .. }),
        "{decision:?}"
    );
    let again = assign(&mut scheduler, 5).remove(0).lease;
    assert_eq!(
        scheduler.fail(&again, failure(), at(6)),
        Ok(FailDecision::Final)
    );
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
        let decision = scheduler
            .fail(&lease, "it broke".to_owned(), at(now))
            .unwrap();
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
        let decision = scheduler
            .fail(&lease, "it broke".to_owned(), at(now))
            .unwrap();
        assert!(
            matches!(decision, FailDecision::Retry { .. }),
            "{decision:?}"
        );
        lease = assign(&mut scheduler, now + 5).remove(0).lease;
    }
    assert_eq!(
        scheduler.fail(&lease, "it broke".to_owned(), at(20)),
        Ok(FailDecision::Final)
    );
    let reasons = vec!["a: failed 3 times on 3 workers; the last: it broke".to_owned()];
    assert_eq!(scheduler.experiment_state(), ExperimentState::Failed);
    assert_eq!(scheduler.failures(), reasons);
}
