//! What the history hears.

use quartet_shared::event::{AttemptEnd, Occurrence, Worker};

use super::*;

/// An occurrence in short: its name and whom it is about.
fn short(what: &Occurrence) -> String {
    let of = |word: &str, worker: &Worker| format!("{word} {}", worker.name);
    match what {
        Occurrence::WorkerJoined { worker, .. } => of("joined", worker),
        Occurrence::WorkerReturned { worker, .. } => of("returned", worker),
        Occurrence::WorkerDisconnected { worker } => of("disconnected", worker),
        Occurrence::WorkerLost { worker } => of("lost", worker),
        Occurrence::WorkerDrained { worker } => of("drained", worker),
        Occurrence::WorkerLeft { worker } => of("left", worker),
        Occurrence::AttemptStarted {
            attempt,
            worker,
            resume,
            ..
        } => {
            format!("attempt {attempt} on {} after {resume}", worker.name)
        }
        Occurrence::AttemptEnded {
            attempt,
            how,
            reason,
            ..
        } => {
            let reason = reason.as_deref().unwrap_or("no reason");
            format!("attempt {attempt} {how:?}: {reason}")
        }
        Occurrence::TaskFailed { task, reason } => format!("{task} failed: {reason}"),
        Occurrence::RunFinished { run, attempt, .. } => format!("{run} finished ({attempt})"),
        Occurrence::RolledBack { run, to, .. } => format!("{run} back to {to}"),
        other => format!("{other:?}"),
    }
}

fn heard(scheduler: &mut Scheduler) -> Vec<String> {
    scheduler.take_occurrences().iter().map(short).collect()
}

#[test]
fn a_run_is_told_from_its_first_attempt_to_its_end() {
    let (mut scheduler, lease) = leased();
    assert_eq!(
        heard(&mut scheduler),
        ["joined w1", "attempt 1 on w1 after epoch 0"]
    );
    commit(&mut scheduler, &lease, 1, 1);
    scheduler.disconnected(&lease.worker, at(2));
    let _ = join(&mut scheduler, "w1", Some(&lease), 3);
    commit(&mut scheduler, &lease, 2, 4);
    let ticket = scheduler.begin_complete(&lease, at(5)).unwrap().unwrap();
    scheduler.end_complete(ticket, DONE, at(5));
    scheduler.left(&lease.worker, at(6));
    assert_eq!(
        heard(&mut scheduler),
        [
            "disconnected w1",
            "returned w1",
            "a finished (1)",
            "left w1"
        ]
    );
}

#[test]
fn failures_and_losses_are_told_with_their_reasons() {
    let (mut scheduler, lease) = leased();
    let _ = join(&mut scheduler, "w2", None, 0);
    scheduler
        .fail(&lease, "no memory".to_owned(), at(0))
        .unwrap();
    let second = assign(&mut scheduler, 1).remove(0).lease;
    heard(&mut scheduler);
    scheduler.release(&second, at(2)).unwrap();
    let third = assign(&mut scheduler, 2).remove(0).lease;
    let silence = at(2) + scheduler.config().lease;
    let _ = scheduler.expire_leases(silence);
    assert_eq!(third.attempt, Attempt(3));
    assert_eq!(
        heard(&mut scheduler),
        [
            "attempt 2 HandedBack: no reason",
            "attempt 3 on w1 after epoch 0",
            "lost w2",
            "attempt 3 Lost: worker w1 was lost: no heartbeat for 15 s",
            "lost w1",
        ]
    );
    let _ = scheduler.heartbeat(&id("w2"), None, silence);
    assert_eq!(heard(&mut scheduler), ["returned w2"]);
}

#[test]
fn a_task_that_failed_for_good_is_told_once() {
    let (mut scheduler, lease) = leased();
    scheduler.reject(&lease, "no file".into(), at(0)).unwrap();
    let heard = heard(&mut scheduler);
    assert_eq!(
        heard[2..],
        ["attempt 1 Rejected: no file", "a failed: no file"]
    );
}

/// A lease that is pinned ends with its transaction, and is told then.
#[test]
fn a_pinned_lease_is_told_when_it_has_ended() {
    let (mut scheduler, lease) = leased();
    heard(&mut scheduler);
    let ticket = scheduler.begin_commit(&lease, end_of(1), at(1)).unwrap();
    scheduler.worker_lost(&lease.worker, "it ended", at(1));
    assert_eq!(heard(&mut scheduler), [""; 0]);
    scheduler.end_commit(ticket, CommitEnd::GivenUp, at(2));
    assert_eq!(
        heard(&mut scheduler),
        ["attempt 1 Lost: worker w1 was lost: it ended"]
    );
}

/// The worker's name is known although the worker has not come back.
#[test]
fn a_lease_of_an_older_coordinator_names_its_worker() {
    let mut scheduler = scheduler(&[("a", 1.0)], history(4, Some(1), None));
    let _ = scheduler.expire_leases(at(1000));
    let told = scheduler.take_occurrences();
    let [Occurrence::AttemptEnded { worker, how, .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((&worker.name[..], *how), ("gpu-0", AttemptEnd::Lost));
}
