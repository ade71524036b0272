use std::time::Duration;

use quartet_shared::checkpoint::{Outcome, StopReason};
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::Epoch;
use quartet_shared::progress::{EpochMetrics, Phase, Progress};
use quartet_shared::spec::Backbone;

use super::*;

const OUTCOME: Outcome = Outcome {
    epochs: 2,
    best_epoch: Epoch(1),
    best_valid_accuracy: 0.5,
    stop_reason: StopReason::Epochs,
};
const DONE: Option<Completion> = Some(Completion::Trained(OUTCOME));

fn at(seconds: u64) -> Now {
    Now(Duration::from_secs(seconds))
}

fn id(name: &str) -> WorkerId {
    name.parse().unwrap()
}

fn train(run: &str) -> Task {
    Task::Train(run.parse().unwrap())
}

/// Runs of two epochs, named and with their costs.
fn scheduler(runs: &[(&str, f64)], history: History) -> Scheduler {
    let plan = |&(name, cost): &(&str, f64)| RunPlan {
        name: name.parse().unwrap(),
        backbone: Backbone::Vgg16,
        epochs: 2,
        patience: 1,
        cost,
    };
    let config = Config {
        progress_timeout: Duration::from_secs(60),
        ..Config::default()
    };
    Scheduler::new(config, runs.iter().map(plan).collect(), history)
}

fn join(scheduler: &mut Scheduler, worker: &str, held: Option<&LeaseId>, now: u64) -> Joined {
    let info = WorkerInfo {
        id: id(worker),
        name: worker.into(),
        device: "none".into(),
    };
    scheduler.join(info, held.cloned(), at(now))
}

/// A scheduler with the first lease of its only run, held by worker `w1`.
fn leased() -> (Scheduler, LeaseId) {
    let mut scheduler = scheduler(&[("a", 1.0)], History::default());
    assert_eq!(join(&mut scheduler, "w1", None, 0), Joined::Free);
    let lease = scheduler.assign(at(0)).remove(0).lease;
    (scheduler, lease)
}

fn given(scheduler: &mut Scheduler, now: u64) -> Vec<(String, String)> {
    let assignments = scheduler.assign(at(now)).into_iter();
    assignments
        .map(|a| (a.lease.task.to_string(), a.lease.worker.to_string()))
        .collect()
}

fn pair(task: &str, worker: &str) -> (String, String) {
    (task.into(), worker.into())
}

fn committed(epoch: u32) -> CommittedEpoch {
    let metrics = EpochMetrics {
        train_loss: 1.0,
        train_accuracy: 0.5,
        valid_loss: 1.0,
        valid_accuracy: 0.5,
        images_per_second: 1.0,
        seconds: 1.0,
    };
    let early_stopping = EarlyStopping {
        best_epoch: Epoch(epoch),
        best_valid_accuracy: 0.5,
        wait: 0,
    };
    CommittedEpoch {
        metrics,
        early_stopping,
    }
}

fn commit(scheduler: &mut Scheduler, lease: &LeaseId, epoch: u32, now: u64) {
    let ticket = scheduler
        .begin_commit(lease, Epoch(epoch), at(now))
        .unwrap();
    scheduler.end_commit(ticket, Some(committed(epoch)), at(now));
}

fn beat(scheduler: &mut Scheduler, lease: &LeaseId, step: u32, now: u64) -> HeartbeatReply {
    let progress = Progress {
        phase: Phase::Training,
        epoch: Epoch(1),
        epochs: 2,
        step,
        steps: 10,
        images_per_second: now as f64,
        loss: None,
        accuracy: None,
    };
    scheduler
        .heartbeat(&lease.worker, Some((lease.clone(), progress)), at(now))
        .unwrap()
}

fn history(attempt: u32, epoch: Option<u32>, outcome: Option<Outcome>) -> History {
    let committed = epoch.map(|epoch| (Epoch(epoch), committed(epoch)));
    let run = "a".parse().unwrap();
    let run = RunHistory {
        run,
        attempt: Attempt(attempt),
        committed,
        outcome,
    };
    History {
        runs: vec![run],
        evaluated: false,
    }
}

#[test]
fn the_longest_rest_goes_first_and_spares_stand_by() {
    let mut scheduler = scheduler(
        &[("a", 3.0), ("b", 2.0), ("c", 4.0)],
        history(1, Some(1), None),
    );
    for worker in ["w1", "w2"] {
        assert_eq!(join(&mut scheduler, worker, None, 0), Joined::Free);
    }
    // One epoch of `a` is left.
    assert_eq!(given(&mut scheduler, 0), [pair("c", "w1"), pair("b", "w2")]);
    for worker in ["w3", "w4"] {
        assert_eq!(join(&mut scheduler, worker, None, 0), Joined::Free);
    }
    let assignments = scheduler.assign(at(0));
    assert_eq!(assignments.len(), 1);
    assert_eq!(assignments[0].lease.attempt, Attempt(2));
    assert_eq!(assignments[0].resume, Some(Epoch(1)));
    assert_eq!(scheduler.idle_workers(), [id("w4")]);
}

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
        run.record().state(),
        &TaskState::Failed {
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
        lease = scheduler.assign(at(now + 10)).remove(0).lease;
    }
    let decision = scheduler.fail(&lease, "it broke".into(), at(400));
    assert_eq!(decision, Ok(FailDecision::Final));
    let reasons = vec!["a: failed 4 times; the last: it broke".to_owned()];
    assert_eq!(
        scheduler.experiment_state(),
        ExperimentState::Failed { reasons }
    );
}

#[test]
fn a_failed_run_does_not_stop_the_others() {
    let mut scheduler = scheduler(&[("a", 2.0), ("b", 1.0)], History::default());
    scheduler.config.max_failures = 0;
    assert_eq!(join(&mut scheduler, "w1", None, 0), Joined::Free);
    let lease = scheduler.assign(at(0)).remove(0).lease;
    assert_eq!(
        scheduler.fail(&lease, "no".into(), at(0)),
        Ok(FailDecision::Final)
    );
    assert_eq!(scheduler.experiment_state(), ExperimentState::Training);
    let lease = scheduler.assign(at(0)).remove(0).lease;
    commit(&mut scheduler, &lease, 1, 0);
    commit(&mut scheduler, &lease, 2, 0);
    let ticket = scheduler.begin_complete(&lease, at(0)).unwrap().unwrap();
    scheduler.end_complete(ticket, DONE, at(0));
    assert_eq!(*scheduler.evaluation().state(), TaskState::Blocked);
    assert!(scheduler.experiment_state().has_ended());
}

#[test]
fn a_silent_worker_loses_its_lease_and_may_come_back_idle() {
    let (mut scheduler, lease) = leased();
    assert_eq!(
        beat(&mut scheduler, &lease, 1, 10),
        HeartbeatReply::Accepted
    );
    assert_eq!(scheduler.expire_leases(at(24)), []);
    assert_eq!(scheduler.next_deadline(), Some(at(25)));
    let expired = scheduler.expire_leases(at(25));
    assert_eq!(expired[0].reason.to_string(), "no heartbeat for 15s");
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
fn a_live_worker_that_does_not_get_on_is_replaced() {
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
    assert_eq!(expired[0].reason.to_string(), "no progress for 60s");
    assert_eq!(given(&mut scheduler, 65), [pair("a", "w2")]);
}

#[test]
fn a_disconnected_worker_keeps_its_lease_for_the_grace_time() {
    let (mut scheduler, lease) = leased();
    scheduler.disconnected(&lease.worker, at(1));
    assert_eq!(scheduler.expire_leases(at(3)), []);
    assert!(
        scheduler.heartbeat(&lease.worker, None, at(3)).is_err(),
        "it has to join first"
    );
    assert_eq!(
        join(&mut scheduler, "w1", Some(&lease), 3),
        Joined::Reattached(lease.clone())
    );
    scheduler.disconnected(&lease.worker, at(10));
    let expired = scheduler.expire_leases(at(13));
    assert_eq!(
        expired[0].reason,
        ExpiryReason::Disconnected(Duration::from_secs(3))
    );
    let joined = join(&mut scheduler, "w1", Some(&lease), 14);
    assert!(
        matches!(joined.refused(), Some(Refusal::StaleLease { .. })),
        "{joined:?}"
    );
}

#[test]
fn a_commit_in_progress_keeps_the_task_from_the_next_worker() {
    let (mut scheduler, lease) = leased();
    assert_eq!(join(&mut scheduler, "w2", None, 0), Joined::Free);
    let ticket = scheduler.begin_commit(&lease, Epoch(1), at(0)).unwrap();
    scheduler.worker_lost(&lease.worker, at(1));
    assert!(scheduler.check(&lease).is_err());
    assert_eq!(given(&mut scheduler, 1), []);
    scheduler.end_commit(ticket, Some(committed(1)), at(2));
    let assignment = scheduler.assign(at(2)).remove(0);
    assert_eq!(assignment.lease.worker, id("w2"));
    assert_eq!(
        assignment.resume,
        Some(Epoch(1)),
        "what was committed is not lost"
    );
}

#[test]
fn epochs_are_committed_once_in_order_and_one_at_a_time() {
    let (mut scheduler, lease) = leased();
    let refusal = |scheduler: &mut Scheduler, epoch| {
        scheduler
            .begin_commit(&lease, Epoch(epoch), at(0))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refusal(&mut scheduler, 2),
        "epoch 2 of a is out of order: epoch 1 is next"
    );
    assert_eq!(refusal(&mut scheduler, 3), "a has no epoch 3");
    let ticket = scheduler.begin_commit(&lease, Epoch(1), at(0)).unwrap();
    let busy = "another commit or completion of a (attempt 1) of worker w1 is in progress";
    assert_eq!(refusal(&mut scheduler, 1), busy);
    scheduler.end_commit(ticket, None, at(0));
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
    let lease = scheduler.assign(at(4)).remove(0).lease;
    assert_eq!(lease.task, Task::Evaluate);
    let no_epochs = scheduler.begin_commit(&lease, Epoch(1), at(4)).unwrap_err();
    assert!(
        matches!(no_epochs, Refusal::NoSuchEpoch { .. }),
        "{no_epochs:?}"
    );
    let ticket = scheduler.begin_complete(&lease, at(5)).unwrap().unwrap();
    scheduler.end_complete(ticket, Some(Completion::Evaluated), at(5));
    assert_eq!(scheduler.experiment_state(), ExperimentState::Finished);
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
        (run.record().worker_losses(), run.record().failures()),
        (0, 0)
    );
}

#[test]
fn a_worker_goes_on_after_the_coordinator_was_started_again() {
    let lease = LeaseId {
        task: train("a"),
        attempt: Attempt(3),
        worker: id("w1"),
    };
    let mut scheduler = scheduler(&[("a", 1.0)], history(2, Some(1), None));
    let early = scheduler.check(&lease).unwrap_err();
    assert_eq!(
        early,
        Refusal::NotAttached {
            lease: lease.clone()
        }
    );
    assert_eq!(
        join(&mut scheduler, "w1", Some(&lease), 0),
        Joined::Reattached(lease.clone())
    );
    commit(&mut scheduler, &lease, 2, 1);

    // One that is older, or comes too late, does not.
    let stale = LeaseId {
        attempt: Attempt(2),
        worker: id("w2"),
        ..lease
    };
    let joined = join(&mut scheduler, "w2", Some(&stale), 2);
    assert!(
        matches!(joined.refused(), Some(Refusal::StaleLease { .. })),
        "{joined:?}"
    );
}

#[test]
fn a_claim_of_a_later_attempt_is_outnumbered_by_the_next_lease() {
    let (mut scheduler, lease) = leased();
    let late = LeaseId {
        attempt: Attempt(7),
        worker: id("w2"),
        ..lease.clone()
    };
    let absurd = LeaseId {
        attempt: Attempt(u32::MAX),
        worker: id("w2"),
        ..lease.clone()
    };
    for claim in [&late, &absurd] {
        assert!(
            join(&mut scheduler, "w2", Some(claim), 0)
                .refused()
                .is_some()
        );
    }
    scheduler.worker_lost(&lease.worker, at(1));
    assert_eq!(scheduler.assign(at(1))[0].lease.attempt, Attempt(8));
}

#[test]
fn a_run_that_finished_before_a_restart_completes_again_under_its_newest_attempt() {
    let mut scheduler = scheduler(&[("a", 1.0)], history(3, Some(2), Some(OUTCOME)));
    let lease = |attempt| LeaseId {
        task: train("a"),
        attempt: Attempt(attempt),
        worker: id("w1"),
    };
    assert_eq!(scheduler.begin_complete(&lease(3), at(0)), Ok(None));
    assert!(scheduler.begin_complete(&lease(2), at(0)).is_err());
    assert_eq!(scheduler.experiment_state(), ExperimentState::Evaluating);
}
