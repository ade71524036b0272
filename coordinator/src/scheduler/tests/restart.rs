//! A coordinator that was started again, and runs that are rolled back or ahead in the store.

use quartet_shared::secret::Secret;

use super::*;

const CORRUPT: &str = "it is corrupt";

/// The end of epoch 1.
fn first_epoch() -> Committed {
    Committed::end_of(Epoch(1), committed(1))
}

#[test]
fn a_worker_goes_on_after_the_coordinator_was_started_again() {
    let lease = LeaseId {
        experiment: experiment(),
        task: train("a"),
        attempt: Attempt(3),
        worker: id("w0"),
    };
    let mut scheduler = scheduler(&[("a", 1.0)], history(3, Some(1), None));
    // A spare comes first, and has to wait for the worker that may still hold the lease.
    assert_eq!(join(&mut scheduler, "w1", None, 1), Joined::Free);
    assert_eq!(given(&mut scheduler, 1), []);
    // Its upload may come before it has joined.
    scheduler.check_lease(&lease).unwrap();
    let label = |scheduler: &Scheduler| {
        let lease = scheduler.runs()[0].record().lease().unwrap();
        scheduler.label_of(lease)
    };
    assert_eq!(label(&scheduler), "gpu-0");
    let early = scheduler.begin_commit(&lease, end_of(2), at(1)).unwrap();
    assert_eq!(
        label(&scheduler),
        "gpu-0",
        "it has a name before it is back"
    );
    scheduler.end_commit(early, CommitEnd::GivenUp, at(1));
    assert_eq!(
        join(&mut scheduler, "w0", Some(&lease), 2),
        Joined::Reattached(lease.clone())
    );
    assert_eq!(scheduler.expire_leases(at(6)), []);
    commit(&mut scheduler, &lease, 2, 6);
    let stale = LeaseId {
        attempt: Attempt(2),
        ..lease.clone()
    };
    let foreign = LeaseId {
        experiment: "x-2".parse().unwrap(),
        ..lease
    };
    for lease in [stale, foreign] {
        assert!(scheduler.check_lease(&lease).is_err(), "{lease}");
        assert!(
            join(&mut scheduler, "w0", Some(&lease), 7)
                .refused()
                .is_some()
        );
    }
}

#[test]
fn a_worker_that_commits_before_it_is_back_still_proves_itself() {
    let secret = Secret::new(7).hash();
    let mut history = history(3, Some(1), None);
    history.runs[0].lease.as_mut().unwrap().secret = Some(secret.clone());
    let mut scheduler = scheduler(&[("a", 1.0)], history);
    let lease = LeaseId {
        experiment: experiment(),
        task: train("a"),
        attempt: Attempt(3),
        worker: id("w0"),
    };
    assert_eq!(scheduler.secret_of(&id("w0")), Some(&secret));
    commit(&mut scheduler, &lease, 2, 1);
    assert_eq!(scheduler.secret_of(&id("w0")), Some(&secret));
    assert_eq!(scheduler.secret_of(&id("w1")), None);
}

#[test]
fn after_a_restart_a_spare_gets_the_run_of_a_worker_that_does_not_come_back() {
    let mut scheduler = scheduler(&[("a", 1.0)], history(3, Some(1), None));
    assert_eq!(join(&mut scheduler, "w1", None, 1), Joined::Free);
    assert_eq!(scheduler.next_deadline(at(0)), Some(at(5)));
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
    assert_eq!(scheduler.runs()[0].record.counts.worker_losses, 0);
}

#[test]
fn a_run_that_finished_before_a_restart_completes_again_under_its_newest_attempt() {
    let mut scheduler = scheduler(&[("a", 1.0)], history(3, Some(2), Some(OUTCOME)));
    let lease = |attempt| LeaseId {
        experiment: experiment(),
        task: train("a"),
        attempt: Attempt(attempt),
        worker: id("w0"),
    };
    assert_eq!(scheduler.begin_complete(&lease(3), at(0)), Ok(None));
    assert!(scheduler.begin_complete(&lease(2), at(0)).is_err());
    assert_eq!(scheduler.experiment_state(), ExperimentState::Evaluating);
}

#[test]
fn a_run_is_rolled_back_when_its_checkpoint_is_corrupt() {
    let (mut scheduler, lease) = leased();
    commit(&mut scheduler, &lease, 1, 0);
    commit_step(&mut scheduler, &lease, Position::within(Epoch(2), 7), 0);
    let ticket = scheduler
        .begin_rollback(&lease, CORRUPT.into(), at(1))
        .unwrap();
    let busy = scheduler
        .begin_commit(&lease, end_of(2), at(1))
        .unwrap_err();
    assert!(matches!(busy, Refusal::Busy { .. }), "{busy}");
    let rolled_back = Some(("a".parse().unwrap(), Committed::default()));
    scheduler.end_rollback(ticket, rolled_back, at(2));
    let assignment = assign(&mut scheduler, 2).remove(0);
    assert_eq!(assignment.resume, Position::default());
    let record = scheduler.runs()[0].record();
    assert_eq!(record.counts, FailureCounts::default());
    assert_eq!(record.reason(), Some(CORRUPT));
}

#[test]
fn a_worker_that_finds_sound_bytes_corrupt_has_failed() {
    let (mut scheduler, lease) = leased();
    commit(&mut scheduler, &lease, 1, 0);
    let ticket = scheduler
        .begin_rollback(&lease, CORRUPT.into(), at(1))
        .unwrap();
    scheduler.end_rollback(ticket, None, at(1));
    let run = &scheduler.runs()[0];
    assert_eq!((run.record.counts.failures, run.position()), (1, end_of(1)));
}

#[test]
fn a_finished_run_is_trained_again_when_the_evaluation_finds_it_corrupt() {
    let mut scheduler = scheduler(&[("a", 1.0)], history(3, Some(2), Some(OUTCOME)));
    assert_eq!(join(&mut scheduler, "w1", None, 0), Joined::Free);
    let lease = assign(&mut scheduler, 0).remove(0).lease;
    assert_eq!(lease.task, Task::Evaluate);
    let ticket = scheduler
        .begin_rollback(&lease, CORRUPT.into(), at(1))
        .unwrap();
    let rolled_back = Some(("a".parse().unwrap(), first_epoch()));
    scheduler.end_rollback(ticket, rolled_back, at(1));
    assert_eq!(scheduler.evaluation().state(), TaskState::Blocked);
    assert_eq!(scheduler.experiment_state(), ExperimentState::Training);
    let assignment = assign(&mut scheduler, 1).remove(0);
    assert_eq!(assignment.lease.attempt, Attempt(4));
    assert_eq!(assignment.resume, end_of(1));
}

#[test]
fn a_run_resumes_from_what_an_older_coordinator_wrote_late() {
    let (mut scheduler, lease) = leased();
    let ticket = scheduler.begin_commit(&lease, end_of(1), at(0)).unwrap();
    scheduler.supersede(ticket, first_epoch(), at(0));
    assert!(scheduler.check_lease(&lease).is_err());
    let assignment = assign(&mut scheduler, 1).remove(0);
    assert_eq!(assignment.resume, end_of(1));
}

#[test]
fn a_lease_survives_a_late_commit_of_an_older_coordinator() {
    let (mut scheduler, lease) = leased();
    let late = scheduler.begin_commit(&lease, end_of(2), at(0));
    assert!(matches!(late, Err(Refusal::OutOfOrder { .. })), "{late:?}");
    assert_eq!(scheduler.catch_up(&lease, first_epoch()), Ok(true));
    let ticket = scheduler.begin_commit(&lease, end_of(2), at(0)).unwrap();
    // It never moves a run back, nor a run that is being written to.
    assert!(matches!(
        scheduler.catch_up(&lease, first_epoch()),
        Err(Refusal::Busy { .. })
    ));
    scheduler.end_commit(ticket, CommitEnd::Epoch(committed(2)), at(0));
    assert_eq!(scheduler.catch_up(&lease, first_epoch()), Ok(false));
    assert_eq!(scheduler.runs()[0].position(), end_of(2));
}

#[test]
fn a_lease_that_is_recorded_as_ended_is_not_waited_for() {
    let mut ended = history(3, Some(1), None);
    ended.runs[0].lease.as_mut().unwrap().ended = true;
    let mut scheduler = scheduler(&[("a", 1.0)], ended);
    assert!(!scheduler.has_leases());
    assert_eq!(join(&mut scheduler, "w1", None, 0), Joined::Free);
    let assignments = assign(&mut scheduler, 0);
    assert_eq!(assignments[0].lease.attempt, Attempt(4));
    assert!(scheduler.has_leases());
}
