use std::time::Duration;

use quartet_shared::checkpoint::{Outcome, Position, StopReason};
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::{Attempt, Epoch};
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
        stall_after: Duration::from_secs(30),
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
    let lease = assign(&mut scheduler, 0).remove(0).lease;
    (scheduler, lease)
}

/// Leases, recorded at once.
fn assign(scheduler: &mut Scheduler, now: u64) -> Vec<Assignment> {
    let assignments = scheduler.assign(at(now));
    for assignment in &assignments {
        scheduler
            .end_grant(&assignment.lease, true, at(now))
            .unwrap();
    }
    assignments
}

fn given(scheduler: &mut Scheduler, now: u64) -> Vec<(String, String)> {
    let assignments = assign(scheduler, now).into_iter();
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

fn end_of(epoch: u32) -> Position {
    Position::end_of(Epoch(epoch))
}

fn commit_step(scheduler: &mut Scheduler, lease: &LeaseId, position: Position, now: u64) {
    let ticket = scheduler.begin_commit(lease, position, at(now)).unwrap();
    scheduler.end_commit(ticket, CommitEnd::Step, at(now));
}

fn commit(scheduler: &mut Scheduler, lease: &LeaseId, epoch: u32, now: u64) {
    let ticket = scheduler
        .begin_commit(lease, end_of(epoch), at(now))
        .unwrap();
    scheduler.end_commit(ticket, CommitEnd::Epoch(committed(epoch)), at(now));
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

/// The store's history of run `a`, whose newest lease was `attempt`, of worker `w0`.
fn history(attempt: u32, epoch: Option<u32>, outcome: Option<Outcome>) -> History {
    let committed = epoch.map(|epoch| (Epoch(epoch), committed(epoch)));
    let run = "a".parse().unwrap();
    let run = RunHistory {
        run,
        lease: Some(LastLease {
            attempt: Attempt(attempt),
            worker: id("w0"),
            ended: false,
        }),
        committed,
        step: 0,
        outcome,
    };
    History {
        runs: vec![run],
        ..History::default()
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
    // One epoch of `a` is left, and its worker of before has left it.
    assert_eq!(join(&mut scheduler, "w0", None, 0), Joined::Free);
    scheduler.drain(&id("w0")).unwrap();
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
        lease = assign(&mut scheduler, now + 10).remove(0).lease;
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

fn ms(millis: u64) -> Now {
    Now(Duration::from_millis(millis))
}

#[test]
fn a_disconnected_worker_keeps_its_lease_until_a_spare_gets_it_or_it_expires() {
    let (mut scheduler, lease) = leased();
    scheduler.disconnected(&lease.worker, at(1));
    assert!(
        scheduler.heartbeat(&lease.worker, None, at(3)).is_err(),
        "it has to join first"
    );
    // Nobody else could do it.
    assert_eq!(scheduler.expire_leases(at(14)), []);
    assert_eq!(
        join(&mut scheduler, "w1", Some(&lease), 14),
        Joined::Reattached(lease.clone())
    );
    assert_eq!(scheduler.expire_leases(at(15)), []);
    scheduler.disconnected(&lease.worker, at(20));
    assert_eq!(join(&mut scheduler, "w2", None, 20), Joined::Free);
    assert_eq!(scheduler.next_deadline(), Some(ms(20_500)));
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
fn a_commit_in_progress_keeps_the_task_from_the_next_worker() {
    let (mut scheduler, lease) = leased();
    assert_eq!(join(&mut scheduler, "w2", None, 0), Joined::Free);
    let ticket = scheduler.begin_commit(&lease, end_of(1), at(0)).unwrap();
    scheduler.worker_lost(&lease.worker, at(1));
    assert!(scheduler.check(&lease).is_err());
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
    let busy = "another commit or completion of a (attempt 1) of worker w1 is in progress";
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
        worker: id("w0"),
    };
    let mut scheduler = scheduler(&[("a", 1.0)], history(3, Some(1), None));
    // A spare comes first, and has to wait for the one that may still be at it.
    assert_eq!(join(&mut scheduler, "w1", None, 1), Joined::Free);
    assert_eq!(given(&mut scheduler, 1), []);
    // So may its upload, before it has joined.
    scheduler.check(&lease).unwrap();
    assert_eq!(
        join(&mut scheduler, "w0", Some(&lease), 2),
        Joined::Reattached(lease.clone())
    );
    assert_eq!(scheduler.expire_leases(at(6)), []);
    commit(&mut scheduler, &lease, 2, 6);
    let stale = LeaseId {
        attempt: Attempt(2),
        ..lease
    };
    assert!(scheduler.check(&stale).is_err());
}

#[test]
fn after_a_restart_a_spare_gets_the_run_of_a_worker_that_does_not_come_back() {
    let mut scheduler = scheduler(&[("a", 1.0)], history(3, Some(1), None));
    assert_eq!(join(&mut scheduler, "w1", None, 1), Joined::Free);
    assert_eq!(scheduler.next_deadline(), Some(at(5)));
    assert_eq!(scheduler.expire_leases(at(4)), []);
    let expired = scheduler.expire_leases(at(5));
    assert_eq!(
        expired[0].reason,
        ExpiryReason::Disconnected(Duration::from_secs(5))
    );
    let assignment = assign(&mut scheduler, 5).remove(0);
    assert_eq!(assignment.lease.attempt, Attempt(4));
    assert_eq!(assignment.resume, end_of(1));
}

#[test]
fn a_worker_that_comes_back_empty_handed_after_a_restart_is_not_counted_as_lost() {
    let mut scheduler = scheduler(&[("a", 1.0)], history(3, None, None));
    assert_eq!(join(&mut scheduler, "w0", None, 1), Joined::Free);
    assert_eq!(given(&mut scheduler, 1), [pair("a", "w0")]);
    assert_eq!(scheduler.runs()[0].record().worker_losses(), 0);
}

#[test]
fn a_run_that_finished_before_a_restart_completes_again_under_its_newest_attempt() {
    let mut scheduler = scheduler(&[("a", 1.0)], history(3, Some(2), Some(OUTCOME)));
    let lease = |attempt| LeaseId {
        task: train("a"),
        attempt: Attempt(attempt),
        worker: id("w0"),
    };
    assert_eq!(scheduler.begin_complete(&lease(3), at(0)), Ok(None));
    assert!(scheduler.begin_complete(&lease(2), at(0)).is_err());
    assert_eq!(scheduler.experiment_state(), ExperimentState::Evaluating);
}

#[test]
fn a_lease_that_could_not_be_recorded_is_none() {
    let (mut scheduler, lease) = leased();
    scheduler.worker_lost(&lease.worker, at(0));
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
    assert_eq!(scheduler.runs()[0].record().worker_losses(), 1);
}

#[test]
fn a_worker_that_goes_while_its_lease_is_recorded_loses_it() {
    let (mut scheduler, lease) = leased();
    scheduler.worker_lost(&lease.worker, at(0));
    assert_eq!(join(&mut scheduler, "w2", None, 0), Joined::Free);
    let assignment = scheduler.assign(at(0)).remove(0);
    scheduler.worker_lost(&id("w2"), at(1));
    assert!(scheduler.end_grant(&assignment.lease, true, at(2)).is_err());
    assert_eq!(join(&mut scheduler, "w3", None, 2), Joined::Free);
    assert_eq!(given(&mut scheduler, 2), [pair("a", "w3")]);
}

#[test]
fn states_within_an_epoch_are_gone_on_from() {
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
fn a_commit_forgives_what_went_wrong_before() {
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
    assert_eq!(
        scheduler.experiment_state(),
        ExperimentState::Failed { reasons }
    );
}

#[test]
fn a_worker_on_which_three_runs_fail_gets_no_more_while_another_is_there() {
    let runs = [("a", 3.0), ("b", 2.0), ("c", 1.0)];
    let mut scheduler = scheduler(&runs, History::default());
    assert_eq!(join(&mut scheduler, "w1", None, 0), Joined::Free);
    for run in ["a", "b", "c"] {
        let lease = assign(&mut scheduler, 0).remove(0).lease;
        assert_eq!(lease.task, train(run));
        scheduler.fail(&lease, "no memory".into(), at(0)).unwrap();
    }
    let worker = scheduler.workers().next().unwrap();
    assert!(scheduler.is_quarantined(worker));
    assert_eq!(join(&mut scheduler, "w2", None, 10), Joined::Free);
    assert_eq!(given(&mut scheduler, 10), [pair("a", "w2")]);
    // The last that is there gets what there is.
    scheduler.worker_lost(&id("w2"), at(11));
    assert_eq!(given(&mut scheduler, 11), [pair("a", "w1")]);
    let lease = scheduler.lease_of(&id("w1")).unwrap();
    commit(&mut scheduler, &lease, 1, 12);
    let worker = scheduler.workers().find(|w| w.info.id == id("w1")).unwrap();
    assert!(!scheduler.is_quarantined(worker), "a success absolves it");
}

#[test]
fn a_worker_that_is_to_drain_gets_no_more() {
    let (mut scheduler, lease) = leased();
    scheduler.drain(&lease.worker).unwrap();
    commit(&mut scheduler, &lease, 1, 0);
    scheduler.release(&lease, at(1)).unwrap();
    assert_eq!(given(&mut scheduler, 1), []);
    assert!(scheduler.drain(&id("w9")).is_err());
}

#[test]
fn a_run_goes_back_when_its_checkpoint_is_corrupt() {
    let (mut scheduler, lease) = leased();
    commit(&mut scheduler, &lease, 1, 0);
    commit_step(&mut scheduler, &lease, Position::within(Epoch(2), 7), 0);
    let ticket = scheduler.begin_rewind(&lease, at(1)).unwrap();
    let busy = scheduler
        .begin_commit(&lease, end_of(2), at(1))
        .unwrap_err();
    assert!(matches!(busy, Refusal::Busy { .. }), "{busy}");
    let found = Found {
        committed: None,
        step: 0,
    };
    let rewound = Some(("a".parse().unwrap(), found));
    scheduler.end_rewind(ticket, rewound, "it is corrupt".into(), at(2));
    let assignment = assign(&mut scheduler, 2).remove(0);
    assert_eq!(assignment.resume, Position::default());
    let record = scheduler.runs()[0].record();
    assert_eq!((record.failures(), record.worker_losses()), (0, 0));
    assert_eq!(record.reason(), Some("it is corrupt"));
}

#[test]
fn a_worker_that_finds_sound_bytes_corrupt_has_failed() {
    let (mut scheduler, lease) = leased();
    commit(&mut scheduler, &lease, 1, 0);
    let ticket = scheduler.begin_rewind(&lease, at(1)).unwrap();
    scheduler.end_rewind(ticket, None, "its disk".into(), at(1));
    let run = &scheduler.runs()[0];
    assert_eq!((run.record().failures(), run.position()), (1, end_of(1)));
}

#[test]
fn a_finished_run_is_done_again_when_the_evaluation_finds_it_corrupt() {
    let mut scheduler = scheduler(&[("a", 1.0)], history(3, Some(2), Some(OUTCOME)));
    assert_eq!(join(&mut scheduler, "w1", None, 0), Joined::Free);
    let lease = assign(&mut scheduler, 0).remove(0).lease;
    assert_eq!(lease.task, Task::Evaluate);
    let ticket = scheduler.begin_rewind(&lease, at(1)).unwrap();
    let found = Found {
        committed: Some((Epoch(1), committed(1))),
        step: 0,
    };
    let rewound = Some(("a".parse().unwrap(), found));
    scheduler.end_rewind(ticket, rewound, "it is corrupt".into(), at(1));
    assert_eq!(*scheduler.evaluation().state(), TaskState::Blocked);
    assert_eq!(scheduler.experiment_state(), ExperimentState::Training);
    let assignment = assign(&mut scheduler, 1).remove(0);
    assert_eq!(assignment.lease.attempt, Attempt(4));
    assert_eq!(assignment.resume, end_of(1));
}

#[test]
fn what_an_older_coordinator_wrote_late_is_gone_on_from() {
    let (mut scheduler, lease) = leased();
    let ticket = scheduler.begin_commit(&lease, end_of(1), at(0)).unwrap();
    let found = Found {
        committed: Some((Epoch(1), committed(1))),
        step: 0,
    };
    scheduler.supersede(ticket, found, at(0));
    assert!(scheduler.check(&lease).is_err());
    let assignment = assign(&mut scheduler, 1).remove(0);
    assert_eq!(assignment.resume, end_of(1));
}

#[test]
fn what_an_older_coordinator_knew_to_have_ended_is_not_waited_for() {
    let mut ended = history(3, Some(1), None);
    ended.runs[0].lease.as_mut().unwrap().ended = true;
    let mut scheduler = scheduler(&[("a", 1.0)], ended);
    assert!(!scheduler.has_leases());
    assert_eq!(join(&mut scheduler, "w1", None, 0), Joined::Free);
    let assignments = assign(&mut scheduler, 0);
    assert_eq!(assignments[0].lease.attempt, Attempt(4));
    assert!(scheduler.has_leases());
}

#[test]
fn a_task_that_stands_still_is_told_of_before_it_is_taken_away() {
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
    assert_eq!(scheduler.next_deadline(), Some(at(stall)));
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
    // One that holds a lease may come back with it.
    scheduler.left(&lease.worker, at(1));
    assert_eq!(
        join(&mut scheduler, "w1", Some(&lease), 1),
        Joined::Reattached(lease)
    );
}

#[test]
fn what_is_handed_back_has_nothing_to_answer_for() {
    let (mut scheduler, lease) = leased();
    let _ = scheduler.fail(&lease, "no memory".into(), at(0)).unwrap();
    let second = assign(&mut scheduler, 10).remove(0).lease;
    scheduler.release(&second, at(11)).unwrap();
    assert_eq!(scheduler.runs()[0].record().reason(), None);
}
