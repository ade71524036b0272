//! Tasks that get another budget, and leases that end because the experiment was changed.

use quartet_shared::event::{AttemptEnd, Occurrence};

use super::failures::half_failed;
use super::*;

#[test]
fn an_ensemble_waits_for_a_run_that_gets_another_budget() {
    let mut scheduler = half_failed(Ensemble::Finished);
    assert_eq!(scheduler.evaluation().state(), TaskState::Pending);
    assert_eq!(scheduler.retry(&train("a"), at(0)), Ok(None));
    assert_eq!(scheduler.evaluation().state(), TaskState::Blocked);
    assert_eq!(scheduler.experiment_state(), ExperimentState::Training);
    assert_eq!(given(&mut scheduler, 0), [pair("a", "w1")]);
    let again = scheduler.retry(&train("a"), at(0));
    assert_eq!(again, Err(Refusal::NotFailed { task: train("a") }));
    assert!(matches!(
        scheduler.retry(&train("c"), at(0)),
        Err(Refusal::UnknownTask { .. })
    ));
}

#[test]
fn an_evaluation_without_it_is_given_up() {
    let mut scheduler = half_failed(Ensemble::Finished);
    let evaluation = assign(&mut scheduler, 0).remove(0).lease;
    assert_eq!(join(&mut scheduler, "w2", None, 0), Joined::Free);
    // Its result may be in the store already.
    let ticket = scheduler.begin_complete(&evaluation, at(0)).unwrap();
    let busy = scheduler.retry(&train("a"), at(0));
    let lease = evaluation.clone();
    assert_eq!(busy, Err(Refusal::Busy { lease }));
    scheduler.end_complete(ticket.unwrap(), None, at(0));

    let ended = scheduler.retry(&train("a"), at(0));
    assert_eq!(ended, Ok(Some(evaluation.clone())));
    assert_eq!(scheduler.evaluation().state(), TaskState::Blocked);
    let late = scheduler.begin_complete(&evaluation, at(0));
    assert!(matches!(late, Err(Refusal::StaleLease { .. })), "{late:?}");
    // The worker of the evaluation is not free before it says so.
    assert_eq!(given(&mut scheduler, 0), [pair("a", "w2")]);
}

#[test]
fn an_experiment_that_has_ended_is_not_gone_on_with() {
    let mut scheduler = half_failed(Ensemble::All);
    let ended = scheduler.retry(&train("a"), at(0));
    assert_eq!(ended, Err(Refusal::ExperimentEnded));
    let mut scheduler = half_failed(Ensemble::Finished);
    let lease = assign(&mut scheduler, 0).remove(0).lease;
    let ticket = scheduler.begin_complete(&lease, at(0)).unwrap().unwrap();
    scheduler.end_complete(ticket, Some(Completion::Evaluated), at(0));
    let ended = scheduler.retry(&train("a"), at(0));
    assert_eq!(ended, Err(Refusal::ExperimentEnded));
}

/// The run is to be trained for longer, or otherwise, than its worker does.
#[test]
fn the_lease_of_a_task_that_was_changed_has_ended() {
    let mut history = history(3, Some(1), None);
    history.runs[0].lease.as_mut().unwrap().superseded = true;
    let mut scheduler = scheduler(&[("a", 1.0)], history);
    let noted = scheduler.take_occurrences();
    assert!(
        matches!(
            &noted[..],
            [Occurrence::AttemptEnded {
                attempt: Attempt(3),
                how: AttemptEnd::HandedBack,
                ..
            }]
        ),
        "{noted:?}"
    );
    let held = LeaseId {
        experiment: experiment(),
        task: train("a"),
        attempt: Attempt(3),
        worker: id("w0"),
    };
    let joined = join(&mut scheduler, "w0", Some(&held), 0);
    assert!(joined.refused().is_some(), "{joined:?}");
    assert_eq!(join(&mut scheduler, "w1", None, 0), Joined::Free);
    let lease = assign(&mut scheduler, 0).remove(0).lease;
    assert_eq!((lease.attempt, lease.worker), (Attempt(4), id("w1")));
}
