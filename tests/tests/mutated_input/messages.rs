//! The protocol's messages, as bytes on the wire: decoded, converted, and shown.

mod samples;

use std::io;
use std::time::Duration;

use prost::Message;
use quartet_mutation::{Format, Kind, survives};
use quartet_proto::v1::{self, complete_request, coordinator_message, worker_message};
use quartet_shared::assignment::Assignment;
use quartet_shared::blob::Blob;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::{ExperimentId, ExperimentName, WorkerId};
use quartet_shared::label;
use quartet_shared::outcome::Outcome;
use quartet_shared::position::Position;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::report::{self, EvaluationReport};
use quartet_shared::spec::Precision;
use quartet_shared::task::{LeaseId, Task};
use quartet_shared::terminal::{Console, Mode, Size};
use quartet_shared::wire::{lease_and_progress, required};
use quartet_status::live::Screen;
use quartet_status::queue::QueueStatus;
use quartet_status::snapshot::Snapshot;
use quartet_status::{json, render};

use samples::{
    checkpoints, completions, coordinator_messages, releases, snapshots, worker_messages,
};

type Read = Result<(), String>;

/// Decodes a message and converts it, as its receiver does.
fn receive<M: Message + Default>(bytes: &[u8], convert: impl Fn(M) -> Read) -> Read {
    convert(M::decode(bytes).map_err(|error| error.to_string())?)
}

/// A conversion whose value is not needed.
fn converted<T, E: ToString>(result: Result<T, E>) -> Read {
    result.map(drop).map_err(|error| error.to_string())
}

fn from_worker(message: v1::WorkerMessage) -> Read {
    match message.message.ok_or("no message")? {
        worker_message::Message::Hello(hello) => {
            converted(hello.worker_id.parse::<WorkerId>())?;
            converted(label::check(&hello.name))?;
            converted(label::check(&hello.device))?;
            converted(hello.held.map(LeaseId::try_from).transpose())
        }
        worker_message::Message::Heartbeat(heartbeat) => {
            converted(heartbeat.progress.map(lease_and_progress).transpose())
        }
    }
}

fn from_coordinator(message: v1::CoordinatorMessage) -> Read {
    match message.message.ok_or("no message")? {
        coordinator_message::Message::Welcome(welcome) => {
            converted(welcome.experiment.parse::<ExperimentName>())?;
            converted(welcome.experiment_id.parse::<ExperimentId>())?;
            converted(welcome.precision.parse::<Precision>())
        }
        coordinator_message::Message::Assignment(assignment) => {
            converted(Assignment::try_from(assignment))
        }
        coordinator_message::Message::Revocation(revocation) => {
            converted(required::<_, LeaseId>(revocation.lease, "lease"))
        }
        coordinator_message::Message::Goodbye(v1::Goodbye { reason })
        | coordinator_message::Message::Drain(v1::Drain { reason, .. }) => {
            let _ = label::shortened(&label::one_line(&reason), 100);
            Ok(())
        }
    }
}

fn checkpoint(message: v1::CommitCheckpointRequest) -> Read {
    let header = match message.part.ok_or("no part")? {
        v1::commit_checkpoint_request::Part::Header(header) => header,
        v1::commit_checkpoint_request::Part::Chunk(_) => return Ok(()),
    };
    converted(required::<_, LeaseId>(header.lease, "lease"))?;
    converted(required::<_, Position>(header.position, "position"))?;
    converted(header.metrics.map(EpochMetrics::try_from).transpose())?;
    converted(
        header
            .early_stopping
            .map(EarlyStopping::try_from)
            .transpose(),
    )?;
    converted(required::<_, Blob>(header.weights, "weights"))?;
    converted(required::<_, Blob>(header.training_state, "training_state"))
}

fn complete(message: v1::CompleteRequest) -> Read {
    converted(required::<_, LeaseId>(message.lease, "lease"))?;
    match message.result.ok_or("no result")? {
        complete_request::Result::Training(outcome) => converted(Outcome::try_from(outcome)),
        complete_request::Result::Evaluation(json) => {
            let evaluation: EvaluationReport =
                serde_json::from_slice(&json).map_err(|error| error.to_string())?;
            converted(evaluation.validate())?;
            let _ = report::render(&evaluation);
            Ok(())
        }
    }
}

fn release(message: v1::ReleaseRequest) -> Read {
    let _ = (
        message.kind(),
        label::shortened(&label::one_line(&message.reason), 100),
    );
    converted(required::<_, LeaseId>(message.lease, "lease"))
}

fn snapshot(message: v1::Snapshot) -> Read {
    let snapshot = Snapshot::try_from(message).map_err(|error| error.to_string())?;
    for width in [1, 80, u16::MAX] {
        let _ = render::table(&snapshot, width);
    }
    let _ = (json::line(&snapshot), json::pretty(&snapshot));
    let size = || Size {
        columns: 20,
        rows: 5,
    };
    for mode in [Mode::Redraw(size), Mode::Lines] {
        let mut screen = Screen::new(Console::new(mode, io::sink(), io::sink()));
        let later = Snapshot {
            uptime: snapshot.uptime.saturating_add(Duration::from_secs(9)),
            ..snapshot.clone()
        };
        screen.show(&snapshot).map_err(|error| error.to_string())?;
        screen.show(&later).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// A kind of message: some that are valid, and what its receiver does.
fn message(name: &str, test: &str, valid: fn() -> Vec<Vec<u8>>, read: impl FnMut(&[u8]) -> Read) {
    let format = Format {
        name,
        test,
        kind: Kind::Binary,
        cases: 1000,
    };
    survives(&format, valid, read);
}

#[test]
fn of_workers() {
    message(
        "worker-message",
        "messages::of_workers",
        worker_messages,
        |bytes| receive(bytes, from_worker),
    );
}

#[test]
fn of_coordinators() {
    message(
        "coordinator-message",
        "messages::of_coordinators",
        coordinator_messages,
        |bytes| receive(bytes, from_coordinator),
    );
}

#[test]
fn with_checkpoints() {
    message(
        "checkpoint-message",
        "messages::with_checkpoints",
        checkpoints,
        |bytes| receive(bytes, checkpoint),
    );
}

#[test]
fn with_results() {
    message(
        "complete-message",
        "messages::with_results",
        completions,
        |bytes| receive(bytes, complete),
    );
}

#[test]
fn without_results() {
    message(
        "release-message",
        "messages::without_results",
        releases,
        |bytes| receive(bytes, release),
    );
}

#[test]
fn with_snapshots() {
    message(
        "snapshot-message",
        "messages::with_snapshots",
        snapshots,
        |bytes| receive(bytes, snapshot),
    );
}

#[test]
fn of_the_queue() {
    let valid = || {
        let entry = |state: v1::QueueState| v1::QueueEntry {
            experiment: "demo".to_owned(),
            state: state.into(),
            priority: -3,
            submitted_at: 1_795_795_200_000,
            submitted_by: "ann".to_owned(),
            ended_at: Some(1_795_795_300_000),
            reason: "enough".to_owned(),
            open: Some(v1::OpenExperiment {
                state: v1::ExperimentState::Training.into(),
                runs: 4,
                runs_ended: 1,
                workers: 2,
                eta_ms: Some(1000),
            }),
        };
        let states = [v1::QueueState::Open, v1::QueueState::Cancelled];
        let queue = v1::GetQueueResponse {
            entries: states.map(entry).into(),
            term: 3,
            waiting_workers: 1,
        };
        vec![queue.encode_to_vec()]
    };
    let read = |queue: v1::GetQueueResponse| {
        let read = QueueStatus::try_from(queue);
        read.map(drop).map_err(|error| error.to_string())
    };
    message("queue-message", "messages::of_the_queue", valid, |bytes| {
        receive(bytes, read)
    });
}

/// Keys, offsets, names and bytes: whatever decodes is taken as it is.
#[test]
fn of_plain_fields() {
    let valid = || {
        let object = v1::GetObjectRequest {
            key: "datasets/x.qds".to_owned(),
            offset: 1 << 20,
        };
        let chunk = v1::GetObjectResponse {
            chunk: vec![1; 100].into(),
        };
        let drain = v1::DrainWorkerRequest {
            worker: "gpu-3@node7".to_owned(),
        };
        let watch = v1::WatchRequest {
            min_interval_ms: 7,
            experiment: "demo".to_owned(),
        };
        vec![
            object.encode_to_vec(),
            chunk.encode_to_vec(),
            drain.encode_to_vec(),
            watch.encode_to_vec(),
        ]
    };
    message(
        "plain-message",
        "messages::of_plain_fields",
        valid,
        |bytes| {
            let all = [
                receive(bytes, |_: v1::GetObjectRequest| Ok(())),
                receive(bytes, |_: v1::GetObjectResponse| Ok(())),
                receive(bytes, |_: v1::DrainWorkerRequest| Ok(())),
                receive(bytes, |_: v1::DrainWorkerResponse| Ok(())),
                receive(bytes, |request: v1::RetryTaskRequest| {
                    required::<_, Task>(request.task, "task")
                        .map(drop)
                        .map_err(|error| error.to_string())
                }),
                receive(bytes, |_: v1::RetryTaskResponse| Ok(())),
                receive(bytes, |_: v1::DrainFleetResponse| Ok(())),
                receive(bytes, |_: v1::WatchRequest| Ok(())),
                receive(bytes, |_: v1::GetSnapshotRequest| Ok(())),
                receive(bytes, |_: v1::CommitCheckpointResponse| Ok(())),
                receive(bytes, |_: v1::CompleteResponse| Ok(())),
                receive(bytes, |_: v1::ReleaseResponse| Ok(())),
                receive(bytes, |_: v1::FindMissingRequest| Ok(())),
                receive(bytes, |_: v1::PutObjectRequest| Ok(())),
                receive(bytes, |_: v1::SubmitRequest| Ok(())),
                receive(bytes, |_: v1::CancelRequest| Ok(())),
            ];
            all.into_iter()
                .find(Result::is_ok)
                .unwrap_or_else(|| Err("none of them".to_owned()))
        },
    );
}
