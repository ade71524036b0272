use std::time::Duration;

use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::{Attempt, Epoch, ExperimentId};
use quartet_shared::outcome::{Outcome, StopReason};
use quartet_shared::position::Position;
use quartet_shared::progress::{EpochMetrics, Phase, Progress};
use quartet_shared::provenance::Provenance;
use quartet_shared::secret::SecretHash;
use quartet_shared::spec::{Backbone, Ensemble, Precision};
use quartet_shared::state::{ExperimentState, TaskState};

use super::task::FailureCounts;
use super::*;

mod commits;
mod drains;
mod failures;
mod occurrences;
mod restart;
mod retries;
mod workers;

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

fn experiment() -> ExperimentId {
    "x-1".parse().unwrap()
}

fn train(run: &str) -> Task {
    Task::Train(run.parse().unwrap())
}

/// A scheduler of runs with two epochs each; they are given by name and cost.
fn scheduler(runs: &[(&str, f64)], history: History) -> Scheduler {
    let settings = |&(name, cost): &(&str, f64)| RunSettings {
        name: name.parse().unwrap(),
        backbone: Backbone::Vgg16,
        epochs: 2,
        patience: 1,
        cost,
        has_weight: true,
    };
    let config = Config {
        progress_timeout: Duration::from_secs(60),
        stall_after: Duration::from_secs(30),
        ..Config::default()
    };
    Scheduler::new(
        experiment(),
        config,
        runs.iter().map(settings).collect(),
        history,
    )
}

fn info(worker: &str) -> WorkerInfo {
    WorkerInfo {
        id: id(worker),
        name: worker.into(),
        device: "none".into(),
        secret: SecretHash::default(),
        provenance: Provenance::default(),
        stays: false,
        precisions: Vec::new(),
    }
}

fn join(scheduler: &mut Scheduler, worker: &str, held: Option<&LeaseId>, now: u64) -> Joined {
    scheduler.join(info(worker), held.cloned(), at(now))
}

/// A scheduler with the first lease of its only run, held by worker `w1`.
fn leased() -> (Scheduler, LeaseId) {
    let mut scheduler = scheduler(&[("a", 1.0)], History::default());
    assert_eq!(join(&mut scheduler, "w1", None, 0), Joined::Free);
    let lease = assign(&mut scheduler, 0).remove(0).lease;
    (scheduler, lease)
}

/// Assigns, and records the leases at once.
fn assign(scheduler: &mut Scheduler, now: u64) -> Vec<Grant> {
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
    let metrics = EpochMetrics::default();
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
    scheduler.end_commit(ticket, CommitEnd::MidEpoch, at(now));
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
        input_wait: None,
        loss: None,
        accuracy: None,
    };
    scheduler
        .heartbeat(&lease.worker, Some((lease.clone(), progress)), at(now))
        .unwrap()
}

/// The store's history of run `a`, whose newest lease was `attempt`, of worker `w0`.
fn history(attempt: u32, epoch: Option<u32>, outcome: Option<Outcome>) -> History {
    let committed = epoch.map(|epoch| Committed::end_of(Epoch(epoch), committed(epoch)));
    let run = "a".parse().unwrap();
    let run = RunHistory {
        run,
        lease: Some(LastLease {
            attempt: Attempt(attempt),
            worker: id("w0"),
            name: "gpu-0".to_owned(),
            secret: None,
            ended: false,
            superseded: false,
        }),
        committed: committed.unwrap_or_default(),
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
