//! Training without a network: what it hands over is said by the test.

use std::io;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use quartet_shared::blob::Blob;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::Epoch;
use quartet_shared::outcome::{Outcome, StopReason};
use quartet_shared::position::Position;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::spec::Precision;
use tokio::sync::{Mutex, mpsc};

use crate::Link;
use crate::executor::{
    Checkpoint, CheckpointFiles, EvaluateTask, Evaluated, Executor, ExecutorError, Moment,
    Snapshot, SnapshotError, Stop, TrainTask, Trained, UnsupportedPrecision, WrittenFile,
};

/// What training is to do next.
#[derive(Debug)]
pub(super) enum Act {
    /// Hand over a checkpoint, and tell what the answer was.
    Keep(Moment, Disk),
    /// Wait until it is told to stop, and tell how.
    UntilStopped,
    End(Trained),
}

/// What the disk does with a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    Writes,
    IsFull,
    /// What was written is not what is read.
    Rots,
}

/// The test's side of it.
pub(super) struct Script {
    pub(super) acts: mpsc::UnboundedSender<Act>,
    /// The tasks that came, with the bytes of the files to resume from.
    pub(super) tasks: mpsc::UnboundedReceiver<(TrainTask, Vec<Vec<u8>>)>,
    pub(super) answers: mpsc::UnboundedReceiver<Option<Stop>>,
}

impl Script {
    pub(super) async fn keep(&mut self, moment: Moment) -> Option<Stop> {
        self.act(Act::Keep(moment, Disk::Writes)).await
    }

    /// The answer to an act that has one.
    pub(super) async fn act(&mut self, act: Act) -> Option<Stop> {
        self.acts.send(act).unwrap();
        self.answers.recv().await.unwrap()
    }
}

/// Follows a [`Script`].
pub(super) struct Scripted {
    acts: Mutex<mpsc::UnboundedReceiver<Act>>,
    tasks: mpsc::UnboundedSender<(TrainTask, Vec<Vec<u8>>)>,
    answers: mpsc::UnboundedSender<Option<Stop>>,
}

pub(super) fn scripted() -> (Scripted, Script) {
    let (acts, next) = mpsc::unbounded_channel();
    let (arrived, tasks) = mpsc::unbounded_channel();
    let (answered, answers) = mpsc::unbounded_channel();
    let scripted = Scripted {
        acts: Mutex::new(next),
        tasks: arrived,
        answers: answered,
    };
    let script = Script {
        acts,
        tasks,
        answers,
    };
    (scripted, script)
}

impl Executor for Scripted {
    fn description(&self) -> String {
        "a script".to_owned()
    }

    fn check_precision(&self, precision: Precision) -> Result<(), UnsupportedPrecision> {
        match precision {
            Precision::F32 | Precision::Tf32 => Ok(()),
            Precision::Bf16 => Err(UnsupportedPrecision(precision)),
        }
    }

    fn train(
        &self,
        task: TrainTask,
        mut link: Link,
    ) -> BoxFuture<'_, Result<Trained, ExecutorError>> {
        Box::pin(async move {
            let files = task
                .resume
                .iter()
                .flat_map(|r| [&r.weights, &r.training_state]);
            let files = files.map(|path| std::fs::read(path).unwrap()).collect();
            self.tasks.send((task, files)).unwrap();
            let mut acts = self.acts.lock().await;
            loop {
                let answer = match acts.recv().await.unwrap() {
                    Act::Keep(moment, disk) => {
                        let snapshot = Box::new(disk);
                        link.checkpoint(Checkpoint { moment, snapshot }).await
                    }
                    Act::UntilStopped => {
                        while link.stop().is_none() {
                            tokio::task::yield_now().await;
                        }
                        link.stop()
                    }
                    Act::End(trained) => return Ok(trained),
                };
                self.answers.send(answer).unwrap();
            }
        })
    }

    fn evaluate(
        &self,
        _: EvaluateTask,
        _: Link,
    ) -> BoxFuture<'_, Result<Evaluated, ExecutorError>> {
        let reason = "the script only trains".to_owned();
        Box::pin(async { Err(ExecutorError::Failed(reason)) })
    }
}

impl Snapshot for Disk {
    fn write(self: Box<Self>, folder: &Path, stem: &str) -> Result<CheckpointFiles, SnapshotError> {
        let file = |kind: &str| {
            let path: PathBuf = folder.join(format!("{stem}.{kind}"));
            let bytes = format!("{kind} of {stem}");
            let written = match *self {
                Self::Writes => std::fs::write(&path, &bytes),
                Self::Rots => std::fs::write(&path, "rotten"),
                Self::IsFull => Err(io::ErrorKind::StorageFull.into()),
            };
            let blob = Blob::of(bytes.as_bytes());
            match written {
                Ok(()) => Ok(WrittenFile { path, blob }),
                Err(source) => Err(SnapshotError {
                    action: "write",
                    path,
                    source,
                }),
            }
        };
        Ok(CheckpointFiles {
            weights: file("weights")?,
            training_state: file("state")?,
        })
    }
}

pub(super) fn early_stopping() -> EarlyStopping {
    EarlyStopping::observe(None, Epoch(1), 0.5)
}

pub(super) fn end(epoch: u32) -> Moment {
    Moment::EpochEnd {
        epoch: Epoch(epoch),
        metrics: EpochMetrics::default(),
        early_stopping: early_stopping(),
    }
}

pub(super) fn within(epoch: u32, step: u32) -> Moment {
    Moment::MidEpoch(Position::within(Epoch(epoch), step))
}

pub(super) fn outcome(epochs: u32) -> Outcome {
    Outcome {
        epochs,
        best_epoch: Epoch(1),
        best_valid_accuracy: 0.5,
        stop_reason: StopReason::Epochs,
    }
}
