use std::time::Duration;

use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::{Attempt, Epoch};
use quartet_shared::outcome::{Outcome, StopReason};
use quartet_shared::position::Position;
use quartet_shared::progress::{EpochMetrics, Phase, Progress};
use quartet_shared::spec::Backbone;

use super::*;

mod fleet;
mod restart;

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
            name: "gpu-0".to_owned(),
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

fn ms(millis: u64) -> Now {
    Now(Duration::from_millis(millis))
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
