//! A whole worker with a coordinator that keeps a record, and training that follows a script.

mod coordinator;
mod scripted;
mod staying;

use std::collections::HashMap;
use std::io::Write as _;

use quartet_proto::v1;
use quartet_shared::assignment::{Assignment, CheckpointRef, Inputs, Start};
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::dataset::{Channels, Dataset, Images};
use quartet_shared::ids::{Attempt, Epoch, RunName};
use quartet_shared::position::Position;
use quartet_shared::secret::Secret;
use quartet_shared::spec::Preset;
use quartet_shared::task::{LeaseId, Task};
use quartet_shared::telemetry::LogTap;
use tokio::task::JoinHandle;
use tonic::Status;

use super::*;
use crate::executor::{Stop, Trained, UnsupportedPrecision};
use coordinator::{Call, Coordinator, Setup};
use scripted::{Act, Disk, Script, end, within};

fn object(key: &str, bytes: &[u8]) -> BlobRef {
    BlobRef {
        key: key.to_owned(),
        blob: Blob::of(bytes),
    }
}

/// The demo's run of VGG16 from `start`, on a data set of one image each.
fn setup_from(start: Start) -> Setup {
    let run: RunName = "vgg16".parse().unwrap();
    let image = Images {
        labels: vec![0],
        pixels: vec![7; 4],
        ..Images::default()
    };
    let dataset = Dataset {
        width: 2,
        height: 2,
        channels: Channels::Gray,
        classes: vec!["a".to_owned(), "b".to_owned()],
        splits: [image.clone(), image.clone(), image],
    };
    let dataset = dataset.encode();
    let assignment = Assignment {
        lease: LeaseId {
            experiment: "x-1".parse().unwrap(),
            task: Task::Train(run.clone()),
            attempt: Attempt(3),
            worker: "w1".parse().unwrap(),
        },
        experiment: Preset::Demo.spec(),
        dataset: object("data", &dataset),
        inputs: Inputs::Training { run, start },
    };
    Setup {
        welcome: v1::Welcome {
            experiment: "x".to_owned(),
            term: 1,
            heartbeat_interval_ms: 1000,
            lease_ms: 10_000,
            checkpoint_interval_ms: 0,
            precision: "f32".to_owned(),
            experiment_id: "x-1".to_owned(),
        },
        assignment: assignment.into(),
        objects: HashMap::from([("data".to_owned(), dataset)]),
        breaks_after: usize::MAX,
        refusal: |_| None,
    }
}

fn setup() -> Setup {
    setup_from(Start::Random)
}

/// A setup to go on after step 5 of epoch 2.
fn setup_to_resume() -> Setup {
    let mut setup = setup_from(Start::Checkpoint(CheckpointRef {
        position: Position::within(Epoch(2), 5),
        early_stopping: Some(scripted::early_stopping()),
        weights: object("the weights", b"weights"),
        training_state: object("the state", b"state"),
    }));
    setup.objects.extend([
        ("the weights".to_owned(), b"weights".to_vec()),
        ("the state".to_owned(), b"state".to_vec()),
    ]);
    setup
}

/// A worker at work.
struct Worker {
    coordinator: Coordinator,
    script: Script,
    shutdown: Shutdown,
    ended: JoinHandle<anyhow::Result<Departure>>,
    cache: tempfile::TempDir,
}

/// The log of a process that says something all the time.
fn talkative() -> LogTap {
    let tap = LogTap::default();
    let mut says = tap.clone();
    tokio::spawn(async move {
        loop {
            says.write_all(b"so it goes\n").unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    tap
}

impl Worker {
    async fn start(setup: Setup) -> Self {
        Self::start_with(setup, |_| ()).await
    }

    /// Starts it after a change of its settings.
    async fn start_with(setup: Setup, change: impl FnOnce(&mut Settings)) -> Self {
        let coordinator = Coordinator::start(setup).await;
        let cache = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            log: Some(talkative()),
            secret: Secret::new(7),
            coordinators: vec![coordinator.address.parse().unwrap()],
            name: "test".to_owned(),
            cache_dir: cache.path().to_owned(),
            give_up_after: Duration::from_secs(60),
            stay: false,
            drain_grace: Duration::from_secs(30),
            connector: Connector::tcp(),
            id: None,
            seed: 1,
        };
        change(&mut settings);
        let (scripted, script) = scripted::scripted();
        let shutdown = Shutdown::new();
        let ended = tokio::spawn(run(settings, Arc::new(scripted), shutdown.clone()));
        Self {
            coordinator,
            script,
            shutdown,
            ended,
            cache,
        }
    }

    async fn call(&mut self) -> Call {
        self.coordinator.calls.recv().await.unwrap()
    }

    /// Shuts the worker down. Returns what it still called.
    async fn stop(self) -> Vec<Call> {
        let Self {
            mut coordinator,
            script,
            shutdown,
            ended,
            cache,
        } = self;
        shutdown.trigger();
        assert_eq!(ended.await.unwrap().unwrap(), Departure::Drained);
        drop((script, cache));
        std::iter::from_fn(|| coordinator.calls.try_recv().ok()).collect()
    }
}

fn committed(moment: crate::executor::Moment) -> Call {
    let position = moment.position();
    Call::Commit(position, position.step == 0)
}

fn handed_back() -> Call {
    let reason = "the worker is shutting down".to_owned();
    Call::Release(v1::ReleaseKind::Drained, reason, String::new())
}

/// Lets training go on for two epochs and drains it within the next.
async fn assert_drains(setup: Setup) {
    let mut worker = Worker::start(setup).await;
    for epoch in 1..=2 {
        let control = worker.script.keep(end(epoch)).await;
        assert_eq!(control, None);
    }
    worker.shutdown.trigger();
    assert_eq!(
        worker.script.act(Act::UntilStopped).await,
        Some(Stop::Drain)
    );
    assert_eq!(worker.script.keep(within(3, 7)).await, Some(Stop::Drain));
    worker.script.acts.send(Act::End(Trained::Stopped)).unwrap();
    assert_eq!(
        worker.stop().await,
        [
            committed(end(1)),
            committed(end(2)),
            committed(within(3, 7)),
            handed_back()
        ]
    );
}

#[tokio::test]
async fn a_drained_worker_commits_its_state_before_it_hands_its_task_back() {
    assert_drains(setup()).await;
}

#[tokio::test]
async fn a_coordinator_without_mid_epoch_checkpoints_is_drained_all_the_same() {
    assert_drains(Setup {
        refusal: |position| {
            (position.step > 0).then(|| Status::unimplemented("mid-epoch checkpoints"))
        },
        ..setup()
    })
    .await;
}

#[tokio::test]
async fn a_worker_leaves_an_experiment_that_it_cannot_compute() {
    let mut setup = setup();
    setup.welcome.precision = "bf16".to_owned();
    let mut worker = Worker::start(setup).await;
    let error = worker.ended.await.unwrap().unwrap_err();
    assert!(error.is::<UnsupportedPrecision>(), "{error:#}");
    // It has not touched the task, which counts against nobody.
    assert!(worker.coordinator.calls.try_recv().is_err());
    assert!(worker.script.tasks.try_recv().is_err());
}

#[tokio::test]
async fn an_assignment_that_cannot_be_read_fails_with_a_reason() {
    let mut setup = setup();
    setup.assignment.experiment = b"{}".as_slice().into();
    let mut worker = Worker::start(setup).await;
    let Call::Release(kind, reason, _) = worker.call().await else {
        panic!("not released")
    };
    assert_eq!(kind, v1::ReleaseKind::Failed);
    assert!(
        reason.contains("experiment: missing field `name`"),
        "{reason}"
    );
    assert_eq!(worker.stop().await, []);
}

#[tokio::test]
async fn a_run_starts_from_its_initial_weights() {
    let mut setup = setup_from(Start::Pretrained(object("the weights", b"weights")));
    setup
        .objects
        .insert("the weights".to_owned(), b"weights".to_vec());
    let mut worker = Worker::start(setup).await;
    let (task, _) = worker.script.tasks.recv().await.unwrap();
    assert!(task.resume.is_none());
    assert_eq!(std::fs::read(task.weights.unwrap()).unwrap(), b"weights");
    worker.script.acts.send(Act::End(Trained::Stopped)).unwrap();
    worker.stop().await;
}

#[tokio::test]
async fn a_run_goes_on_within_an_epoch() {
    let mut setup = setup_to_resume();
    setup.welcome.checkpoint_interval_ms = 1500;
    let mut worker = Worker::start(setup).await;
    let (task, files) = worker.script.tasks.recv().await.unwrap();
    assert_eq!(task.checkpoint_interval, Some(Duration::from_millis(1500)));
    let resume = task.resume.unwrap();
    assert_eq!(resume.position, Position::within(Epoch(2), 5));
    assert_eq!(resume.early_stopping, Some(scripted::early_stopping()));
    assert_eq!(files, [b"weights".to_vec(), b"state".to_vec()]);

    worker.script.keep(end(2)).await;
    let finished = Trained::Finished(scripted::outcome(2));
    worker.script.acts.send(Act::End(finished)).unwrap();
    assert_eq!(worker.call().await, committed(end(2)));
    assert_eq!(worker.call().await, Call::Complete);
    assert_eq!(worker.stop().await, []);
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    let mut setup = setup_to_resume();
    setup.breaks_after = 3;
    let mut worker = Worker::start(setup).await;
    let (_, files) = worker.script.tasks.recv().await.unwrap();
    assert_eq!(files, [b"weights".to_vec(), b"state".to_vec()]);
    for key in ["data", "the weights", "the state"] {
        assert_eq!(worker.coordinator.reads(key), 2, "{key}");
    }
    worker.script.acts.send(Act::End(Trained::Stopped)).unwrap();
    worker.stop().await;
}

#[tokio::test]
async fn a_corrupt_object_is_read_again_and_then_named() {
    let mut setup = setup_to_resume();
    let key = "the state";
    setup.objects.insert(key.to_owned(), b"stale".to_vec());
    let mut worker = Worker::start(setup).await;
    let Call::Release(kind, reason, object) = worker.call().await else {
        panic!("not released")
    };
    assert_eq!((kind, &object[..]), (v1::ReleaseKind::Corrupt, key));
    assert!(
        reason.contains(key) && reason.contains("corrupt"),
        "{reason}"
    );
    assert_eq!(worker.coordinator.reads(key), 2);
    assert_eq!(worker.coordinator.reads("the weights"), 1);
    assert!(
        worker.script.tasks.try_recv().is_err(),
        "nothing was trained"
    );
    assert_eq!(worker.stop().await, []);
}

#[tokio::test]
async fn a_full_disk_is_named_and_what_was_written_is_committed() {
    let mut worker = Worker::start(setup()).await;
    worker.script.keep(end(1)).await;
    worker.script.act(Act::Keep(end(2), Disk::IsFull)).await;
    assert_eq!(worker.script.act(Act::UntilStopped).await, Some(Stop::Drop));
    worker.script.acts.send(Act::End(Trained::Stopped)).unwrap();
    assert_eq!(worker.call().await, committed(end(1)));
    let Call::Release(kind, reason, _) = worker.call().await else {
        panic!("not released")
    };
    assert_eq!(kind, v1::ReleaseKind::Failed);
    let spool = worker.cache.path().join("spool").display().to_string();
    assert!(
        reason.contains(&format!("make room for {spool}")) && reason.contains("--cache-dir"),
        "{reason}"
    );
    assert_eq!(worker.stop().await, []);
}

#[tokio::test]
async fn a_file_that_rots_on_the_way_fails_the_task_and_is_named() {
    let mut worker = Worker::start(setup()).await;
    worker.script.act(Act::Keep(end(1), Disk::Rots)).await;
    assert_eq!(worker.script.act(Act::UntilStopped).await, Some(Stop::Drop));
    worker.script.acts.send(Act::End(Trained::Stopped)).unwrap();
    let Call::Release(kind, reason, _) = worker.call().await else {
        panic!("not released")
    };
    assert_eq!(kind, v1::ReleaseKind::Failed);
    let spool = worker.cache.path().join("spool").display().to_string();
    assert!(
        reason.contains(&spool) && reason.contains("is damaged on this disk"),
        "{reason}"
    );
    assert_eq!(worker.stop().await, []);
}

#[tokio::test]
async fn a_refused_checkpoint_ends_training() {
    let mut worker = Worker::start(Setup {
        refusal: |_| Some(Status::failed_precondition("stale")),
        ..setup()
    })
    .await;
    worker.script.keep(end(1)).await;
    assert_eq!(worker.script.act(Act::UntilStopped).await, Some(Stop::Drop));
    assert_eq!(worker.script.keep(end(2)).await, Some(Stop::Drop));
    worker.script.acts.send(Act::End(Trained::Stopped)).unwrap();
    assert_eq!(worker.call().await, committed(end(1)));
    assert_eq!(worker.stop().await, []);
}
