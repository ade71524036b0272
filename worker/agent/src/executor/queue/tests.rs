use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt as _;
use quartet_shared::blob::Blob;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::Epoch;
use quartet_shared::position::Position;
use quartet_shared::progress::EpochMetrics;

use super::*;
use crate::executor::{Snapshot, SnapshotError, WrittenFile};

#[derive(Debug)]
struct Nothing;

impl Snapshot for Nothing {
    fn write(self: Box<Self>, folder: &Path, stem: &str) -> Result<CheckpointFiles, SnapshotError> {
        let file = |kind: &str| {
            let path = folder.join(format!("{stem}.{kind}"));
            fs::write(&path, kind).unwrap();
            let blob = Blob::of(kind.as_bytes());
            WrittenFile { path, blob }
        };
        Ok(CheckpointFiles {
            weights: file("weights"),
            training_state: file("state"),
        })
    }
}

fn end(epoch: u32) -> Moment {
    let epoch = Epoch(epoch);
    Moment::EpochEnd {
        epoch,
        metrics: EpochMetrics::default(),
        early_stopping: EarlyStopping::observe(None, epoch, 0.5),
    }
}

fn within(epoch: u32, step: u32) -> Moment {
    Moment::MidEpoch(Position::within(Epoch(epoch), step))
}

fn checkpoint(moment: Moment) -> Checkpoint {
    let snapshot = Box::new(Nothing);
    Checkpoint { moment, snapshot }
}

/// A queue and the one that writes.
struct Fixture {
    folder: tempfile::TempDir,
    queue: Queue,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::default();
        Self { folder, queue }
    }

    /// Whether it is taken at once.
    fn put(&self, moment: Moment) -> bool {
        let room = self.queue.has_room();
        let put = self.queue.put(checkpoint(moment)).now_or_never().is_some();
        assert_eq!(put, room);
        put
    }

    /// Writes what has arrived.
    fn write(&self) {
        let to_write = self.queue.to_write().now_or_never();
        let Checkpoint { moment, snapshot } = to_write.flatten().expect("one has arrived");
        let position = moment.position();
        let stem = format!("{}-{}", position.epoch, position.step);
        let files = snapshot.write(self.folder.path(), &stem).unwrap();
        self.queue.written(Written { moment, files });
    }

    /// What is to be sent now, if anything.
    fn take(&self) -> Option<Written> {
        self.queue.to_send().now_or_never().flatten()
    }

    fn files(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.folder.path()).unwrap();
        let mut files: Vec<PathBuf> = files.map(|f| f.unwrap().file_name().into()).collect();
        files.sort();
        files
    }
}

#[test]
fn checkpoints_are_sent_in_the_order_in_which_they_came() {
    let fixture = Fixture::new();
    assert!(fixture.queue.is_idle());
    assert!(fixture.queue.to_send().now_or_never().is_none(), "it waits");
    for epoch in 1..=3 {
        assert!(fixture.put(end(epoch)));
        assert!(!fixture.queue.is_idle());
        fixture.write();
    }
    for epoch in 1..=3 {
        let sending = fixture.take().unwrap();
        assert_eq!(sending.moment, end(epoch));
        assert!(!fixture.queue.is_idle(), "it is on its way");
        drop(sending);
        fixture.queue.sent();
    }
    assert!(fixture.queue.is_idle());
    assert!(fixture.files().is_empty(), "what is sent is removed");
}

#[test]
fn one_checkpoint_is_in_memory() {
    let fixture = Fixture::new();
    assert!(fixture.put(end(1)));
    assert!(!fixture.put(end(2)), "the first has to be written");
    let first = fixture.queue.to_write().now_or_never().flatten().unwrap();
    assert!(!fixture.put(end(2)), "it is being written");
    assert!(!fixture.queue.is_idle());
    let files = first.snapshot.write(fixture.folder.path(), "1").unwrap();
    let moment = first.moment;
    fixture.queue.written(Written { moment, files });
    assert!(fixture.put(end(2)));
}

#[test]
fn a_mid_epoch_checkpoint_that_waits_makes_way_for_a_later_checkpoint() {
    let fixture = Fixture::new();
    for moment in [end(1), within(2, 3), within(2, 5)] {
        assert!(fixture.put(moment));
        fixture.write();
    }
    let names = ["1-0.state", "1-0.weights", "1-5.state", "1-5.weights"];
    assert_eq!(fixture.files(), names.map(PathBuf::from));
    assert!(fixture.put(end(2)));
    assert_eq!(
        fixture.files(),
        names.map(PathBuf::from),
        "not before it is written"
    );
    fixture.write();
    for epoch in 1..=2 {
        assert_eq!(fixture.take().unwrap().moment, end(epoch));
    }
    assert!(fixture.take().is_none());
}

#[test]
fn a_mid_epoch_checkpoint_that_is_being_sent_is_superseded_by_what_waits() {
    let fixture = Fixture::new();
    assert!(fixture.put(within(1, 3)));
    fixture.write();
    let sending = fixture.take().unwrap();
    assert!(fixture.put(within(1, 5)));
    assert!(
        !fixture.queue.is_superseded(&sending),
        "the later one is only in memory"
    );
    fixture.write();
    assert!(fixture.queue.is_superseded(&sending));
    // An epoch's end is needed for ever.
    drop(sending);
    let fixture = Fixture::new();
    for epoch in 1..=2 {
        assert!(fixture.put(end(epoch)));
        fixture.write();
    }
    let sending = fixture.take().unwrap();
    assert!(!fixture.queue.is_superseded(&sending));
}

#[tokio::test]
async fn training_waits_while_four_wait() {
    let fixture = Arc::new(Fixture::new());
    for epoch in 1..=5 {
        assert!(fixture.put(end(epoch)), "{epoch}");
        fixture.write();
        if epoch == 1 {
            drop(fixture.take().unwrap());
        }
    }
    assert!(!fixture.put(end(6)) && !fixture.put(within(6, 1)));
    let waiting = Arc::clone(&fixture);
    let put = tokio::spawn(async move { waiting.queue.put(checkpoint(end(6))).await });
    tokio::task::yield_now().await;
    assert!(!put.is_finished());
    fixture.queue.sent();
    assert_eq!(fixture.take().unwrap().moment, end(2));
    put.await.unwrap();
    fixture.write();
    assert_eq!(fixture.take().unwrap().moment, end(3));
}

#[test]
fn when_training_is_over_the_rest_is_sent() {
    let fixture = Fixture::new();
    for moment in [end(1), end(2)] {
        assert!(fixture.put(moment));
        fixture.write();
    }
    assert!(fixture.put(within(3, 2)));
    fixture.queue.complete();
    assert_eq!(fixture.take().unwrap().moment, end(1));
    assert_eq!(fixture.take().unwrap().moment, end(2));
    assert!(
        fixture.queue.to_send().now_or_never().is_none(),
        "the last one is not written"
    );
    fixture.write();
    assert!(fixture.queue.to_write().now_or_never().unwrap().is_none());
    assert_eq!(fixture.take().unwrap().moment, within(3, 2));
    assert!(fixture.queue.to_send().now_or_never().unwrap().is_none());
}

#[tokio::test]
async fn a_closed_queue_takes_nothing_and_gives_what_is_written() {
    let fixture = Arc::new(Fixture::new());
    assert!(fixture.put(end(1)));
    fixture.write();
    assert!(fixture.put(end(2)));
    let waiting = Arc::clone(&fixture);
    let put = tokio::spawn(async move { waiting.queue.put(checkpoint(end(3))).await });
    tokio::task::yield_now().await;
    assert!(!put.is_finished());
    fixture.queue.close();
    put.await.unwrap();
    assert!(fixture.queue.is_closed());
    assert!(fixture.queue.to_write().now_or_never().unwrap().is_none());
    assert_eq!(fixture.take().unwrap().moment, end(1));
    assert!(fixture.queue.to_send().now_or_never().unwrap().is_none());
}
