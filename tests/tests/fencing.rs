//! Two coordinators that write the same checkpoint: what a worker is told must be what the store says. The
//! worker is the test itself.

use std::path::PathBuf;

use quartet_proto::v1::{CompleteRequest, ReleaseKind, complete_request};
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::ids::{Attempt, Epoch};
use quartet_shared::outcome::{Outcome, StopReason};
use quartet_shared::position::Position;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::task::{LeaseId, Task};
use quartet_store::layout::Layout;
use quartet_store::manifest::Manifest;
use quartet_tests::job::Job;
use quartet_tests::played_worker::{PlayedWorker, early_stopping, header, secret_of};
use quartet_tests::processes::{Coordinator, hello};
use tonic::{Code, Status};

/// Commits an epoch whose files are these bytes.
async fn commit(
    worker: &mut PlayedWorker,
    lease: &LeaseId,
    epoch: Epoch,
    bytes: &[u8],
) -> Result<(), Status> {
    worker.commit(header(lease, epoch, bytes), bytes).await
}

fn start(job: &Job) -> Coordinator {
    Coordinator::spawn(&mut job.coordinator(1, "127.0.0.1:0"))
}

/// A store, and a coordinator on it.
struct Fenced {
    job: Job,
    coordinator: Coordinator,
    layout: Layout,
}

impl Fenced {
    fn start() -> Self {
        let job = Job::new(4, 16);
        Self {
            coordinator: start(&job),
            layout: Layout::new("small".parse().unwrap()),
            job,
        }
    }

    /// Kills the coordinator and starts another.
    fn restart(&mut self) {
        self.coordinator.process.kill();
        self.coordinator = start(&self.job);
    }

    fn path(&self, key: &str) -> PathBuf {
        self.job.path("store").join(key)
    }

    fn write(&self, key: &str, bytes: &[u8]) {
        let path = self.path(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Whole or not at all, as a store writes: the coordinator may be reading.
        let partial = path.with_extension("partial");
        std::fs::write(&partial, bytes).unwrap();
        std::fs::rename(partial, path).unwrap();
    }

    /// Commits an epoch past the coordinator, as another one would that led before it and is late.
    fn commit_from_elsewhere(&self, lease: &LeaseId, epoch: Epoch, bytes: &[u8]) -> Manifest {
        let Task::Train(run) = &lease.task else {
            panic!("{lease} is of no run")
        };
        let position = Position::end_of(epoch);
        let object = |key: String| {
            self.write(&key, bytes);
            let blob = Blob::of(bytes);
            BlobRef { key, blob }
        };
        let manifest = Manifest {
            run: run.clone(),
            epoch,
            attempt: lease.attempt,
            worker: lease.worker.clone(),
            revision: quartet_shared::ids::Revision::FIRST,
            committed_at: None,
            metrics: EpochMetrics::default(),
            early_stopping: early_stopping(epoch),
            weights: object(self.layout.weights(run, position, lease.attempt)),
            training_state: object(self.layout.training_state(run, position, lease.attempt)),
        };
        let json = serde_json::to_vec(&manifest).unwrap();
        self.write(&self.layout.manifest(run, epoch), &json);
        manifest
    }

    fn manifest(&self, lease: &LeaseId, epoch: Epoch) -> Manifest {
        let Task::Train(run) = &lease.task else {
            panic!("{lease} is of no run")
        };
        let json = std::fs::read(self.path(&self.layout.manifest(run, epoch))).unwrap();
        serde_json::from_slice(&json).unwrap()
    }
}

#[tokio::test]
async fn a_manifest_of_another_attempt_is_not_taken_for_the_workers_own() {
    let job = Fenced::start();
    let mut worker = PlayedWorker::attach(&job.coordinator.address, "w1").await;
    let (lease, resume) = worker.assigned().await;
    assert_eq!(resume, Position::default());
    let other = LeaseId {
        attempt: Attempt(lease.attempt.0 + 7),
        ..lease.clone()
    };
    // Even the same bytes are another attempt's.
    let theirs = job.commit_from_elsewhere(&other, Epoch(1), b"the same");
    let refused = commit(&mut worker, &lease, Epoch(1), b"the same").await;
    let refused = refused.expect_err("it is committed by another");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert_eq!(job.manifest(&lease, Epoch(1)), theirs);
    // The lease is void, and the run goes on from what is there.
    let again = commit(&mut worker, &lease, Epoch(1), b"the same").await;
    assert_eq!(again.map_err(|s| s.code()), Err(Code::FailedPrecondition));
    let (next, resume) = loop {
        let (next, resume) = worker.assigned().await;
        if next.task == lease.task {
            break (next, resume);
        }
    };
    assert!(next.attempt > lease.attempt);
    assert_eq!(resume, Position::end_of(Epoch(1)));
}

#[tokio::test]
async fn what_an_older_coordinator_commits_late_is_known_to_the_next() {
    let mut job = Fenced::start();
    let mut worker = PlayedWorker::attach(&job.coordinator.address, "w1").await;
    let (lease, _) = worker.assigned().await;
    job.restart();
    // The older one answers the worker after the newer one has read the store.
    job.commit_from_elsewhere(&lease, Epoch(1), b"late");
    let mut worker =
        PlayedWorker::attach_with(&job.coordinator.address, hello("w1", Some(lease.clone())))
            .await
            .unwrap();
    commit(&mut worker, &lease, Epoch(2), b"in time")
        .await
        .unwrap();
    assert_eq!(job.manifest(&lease, Epoch(2)).attempt, lease.attempt);
    // The same again, but the worker does not come back.
    job.restart();
    job.commit_from_elsewhere(&lease, Epoch(3), b"late");
    let mut other = PlayedWorker::attach(&job.coordinator.address, "w2").await;
    let (of_other_run, _) = other.assigned().await;
    assert_ne!(of_other_run.task, lease.task);
    let mut spare = PlayedWorker::attach(&job.coordinator.address, "w3").await;
    let (next, resume) = spare.assigned().await;
    assert_eq!(next.task, lease.task);
    assert!(next.attempt > lease.attempt);
    assert_eq!(resume, Position::end_of(Epoch(3)));
}

#[tokio::test]
async fn a_commit_is_answered_alike_when_it_is_asked_for_again() {
    let job = Fenced::start();
    let mut worker = PlayedWorker::attach(&job.coordinator.address, "w1").await;
    let (lease, _) = worker.assigned().await;
    for _ in 0..2 {
        commit(&mut worker, &lease, Epoch(1), b"mine")
            .await
            .unwrap();
    }
    assert_eq!(
        job.manifest(&lease, Epoch(1)).weights.blob,
        Blob::of(b"mine")
    );
    let other = commit(&mut worker, &lease, Epoch(1), b"other").await;
    assert_eq!(other.map_err(|s| s.code()), Err(Code::AlreadyExists));
    assert_eq!(
        job.manifest(&lease, Epoch(1)).weights.blob,
        Blob::of(b"mine")
    );
}

#[tokio::test]
async fn a_run_whose_newest_manifest_is_gone_goes_back_to_the_one_before() {
    let job = Fenced::start();
    let mut worker = PlayedWorker::attach(&job.coordinator.address, "w1").await;
    let (lease, _) = worker.assigned().await;
    let Task::Train(run) = &lease.task else {
        panic!("{lease} is of no run")
    };
    for epoch in [Epoch(1), Epoch(2)] {
        commit(&mut worker, &lease, epoch, b"weights")
            .await
            .unwrap();
    }
    std::fs::remove_file(job.path(&job.layout.manifest(run, Epoch(2)))).unwrap();
    worker
        .release(&lease, ReleaseKind::Drained, "")
        .await
        .unwrap();
    let mut others = Vec::new();
    let resume = loop {
        let id = format!("w{}", others.len() + 2);
        let mut other = PlayedWorker::attach(&job.coordinator.address, &id).await;
        let (next, resume) = other.assigned().await;
        others.push(other);
        if next.task == lease.task {
            break resume;
        }
    };
    assert_eq!(resume, Position::end_of(Epoch(1)));
}

#[tokio::test]
async fn an_evaluation_begins_although_an_outcome_is_gone() {
    let job = Fenced::start();
    let outcome = Outcome {
        epochs: 4,
        best_epoch: Epoch(1),
        best_valid_accuracy: 0.0,
        stop_reason: StopReason::Epochs,
    };
    let mut workers = Vec::new();
    for id in ["w1", "w2"] {
        let mut worker = PlayedWorker::attach(&job.coordinator.address, id).await;
        let (lease, _) = worker.assigned().await;
        workers.push((worker, lease));
    }
    for (worker, lease) in &mut workers {
        for epoch in 1..=4 {
            commit(worker, lease, Epoch(epoch), b"weights")
                .await
                .unwrap();
        }
        let request = CompleteRequest {
            lease: Some(lease.clone().into()),
            result: Some(complete_request::Result::Training(outcome.into())),
            secret: secret_of(lease),
        };
        worker.client.complete(request).await.unwrap();
        let Task::Train(run) = &lease.task else {
            panic!("{lease} is of no run")
        };
        let written = std::fs::remove_file(job.path(&job.layout.outcome(run)));
        // The evaluation may be granted as soon as the last run is complete.
        written.unwrap();
    }
    let (evaluation, _) = workers[0].0.assigned().await;
    assert_eq!(evaluation.task, Task::Evaluate);
}
