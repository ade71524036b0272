//! The protocol's messages, as bytes on the wire: decoded, converted, and shown.

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
use quartet_shared::spec::{Precision, Preset};
use quartet_shared::task::LeaseId;
use quartet_shared::terminal::{Mode, Size};
use quartet_shared::wire::{lease_and_progress, required};
use quartet_status::live::Screen;
use quartet_status::snapshot::Snapshot;
use quartet_status::{json, render};

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
        | coordinator_message::Message::Drain(v1::Drain { reason }) => {
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
        let mut screen = Screen::new(Vec::new(), mode);
        let later = Snapshot {
            uptime: snapshot.uptime.saturating_add(Duration::from_secs(9)),
            ..snapshot.clone()
        };
        screen.show(&snapshot).map_err(|error| error.to_string())?;
        screen.show(&later).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn lease() -> v1::Lease {
    v1::Lease {
        task: Some(v1::Task {
            kind: Some(v1::task::Kind::Run("vgg16".to_owned())),
        }),
        attempt: 3,
        worker_id: "0123456789abcdef".to_owned(),
        experiment_id: "fedcba9876543210".to_owned(),
    }
}

fn progress() -> v1::Progress {
    v1::Progress {
        lease: Some(lease()),
        phase: v1::Phase::Training.into(),
        epoch: 3,
        epochs: 50,
        step: 17,
        steps: 176,
        images_per_second: 12.5,
        loss: Some(1.25),
        accuracy: Some(0.5),
    }
}

fn metrics() -> v1::EpochMetrics {
    v1::EpochMetrics {
        train_loss: 1.5,
        train_accuracy: 0.4,
        valid_loss: f64::NAN,
        valid_accuracy: 0.45,
        images_per_second: 99.0,
        seconds: 60.0,
    }
}

fn early_stopping() -> v1::EarlyStopping {
    v1::EarlyStopping {
        best_epoch: 2,
        best_valid_accuracy: 0.5,
        wait: 1,
    }
}

fn blob() -> v1::Blob {
    v1::Blob {
        size: 1 << 20,
        sha256: vec![7; 32].into(),
    }
}

fn object(key: &str) -> Option<v1::BlobRef> {
    Some(v1::BlobRef {
        key: key.to_owned(),
        blob: Some(blob()),
    })
}

fn worker_messages() -> Vec<Vec<u8>> {
    let hello = worker_message::Message::Hello(v1::Hello {
        protocol_version: quartet_proto::PROTOCOL_VERSION,
        worker_id: "0123456789abcdef".to_owned(),
        name: "gpu-3@node7".to_owned(),
        device: "CPU (flex, 2 threads)".to_owned(),
        held: Some(lease()),
        term: 4,
    });
    let heartbeat = worker_message::Message::Heartbeat(v1::Heartbeat {
        progress: Some(progress()),
    });
    let messages = [hello, heartbeat].map(|message| v1::WorkerMessage {
        message: Some(message),
    });
    messages.iter().map(Message::encode_to_vec).collect()
}

fn coordinator_messages() -> Vec<Vec<u8>> {
    let assignment = |lease, inputs| {
        let experiment = serde_json::to_vec(&Preset::Demo.spec()).unwrap();
        coordinator_message::Message::Assignment(v1::Assignment {
            lease: Some(lease),
            experiment: experiment.into(),
            dataset: object("datasets/x.qds"),
            inputs: Some(inputs),
        })
    };
    let training = v1::TrainingInputs {
        initial_weights: object("weights/x"),
        checkpoint: Some(v1::CheckpointRef {
            position: Some(v1::Position { epoch: 2, step: 3 }),
            early_stopping: Some(early_stopping()),
            weights: object("x.weights.safetensors"),
            training_state: object("x.state.safetensors"),
        }),
    };
    let member = v1::BestCheckpoint {
        run: "vgg16".to_owned(),
        epoch: 3,
        weights: object("x.weights.safetensors"),
    };
    let evaluation = v1::EvaluationInputs {
        members: vec![member.clone(), member],
    };
    let evaluated = v1::Lease {
        task: Some(v1::Task {
            kind: Some(v1::task::Kind::Evaluation(v1::Evaluation {})),
        }),
        ..lease()
    };
    let reason = "the worker was asked to".to_owned();
    let messages = [
        coordinator_message::Message::Welcome(v1::Welcome {
            experiment: "demo".to_owned(),
            term: 2,
            heartbeat_interval_ms: 1000,
            lease_ms: 15_000,
            checkpoint_interval_ms: 600_000,
            precision: "f32".to_owned(),
            experiment_id: "fedcba9876543210".to_owned(),
        }),
        assignment(lease(), v1::assignment::Inputs::Training(training)),
        assignment(evaluated, v1::assignment::Inputs::Evaluation(evaluation)),
        coordinator_message::Message::Revocation(v1::Revocation {
            lease: Some(lease()),
            reason: reason.clone(),
        }),
        coordinator_message::Message::Goodbye(v1::Goodbye {
            reason: reason.clone(),
        }),
        coordinator_message::Message::Drain(v1::Drain { reason }),
    ];
    let messages = messages.map(|message| v1::CoordinatorMessage {
        message: Some(message),
    });
    messages.iter().map(Message::encode_to_vec).collect()
}

fn checkpoints() -> Vec<Vec<u8>> {
    let header = v1::CheckpointHeader {
        lease: Some(lease()),
        position: Some(v1::Position { epoch: 2, step: 0 }),
        metrics: Some(metrics()),
        early_stopping: Some(early_stopping()),
        weights: Some(blob()),
        training_state: Some(blob()),
    };
    let parts = [
        v1::commit_checkpoint_request::Part::Header(header),
        v1::commit_checkpoint_request::Part::Chunk(vec![1; 300].into()),
    ];
    let messages = parts.map(|part| v1::CommitCheckpointRequest { part: Some(part) });
    messages.iter().map(Message::encode_to_vec).collect()
}

fn completions() -> Vec<Vec<u8>> {
    let outcome = v1::TrainingOutcome {
        epochs: 9,
        best_epoch: 4,
        best_valid_accuracy: 0.5,
        stop_reason: v1::StopReason::EarlyStopping.into(),
    };
    let json = serde_json::to_vec(&crate::store::report()).unwrap();
    let results = [
        complete_request::Result::Training(outcome),
        complete_request::Result::Evaluation(json.into()),
    ];
    let messages = results.map(|result| v1::CompleteRequest {
        lease: Some(lease()),
        result: Some(result),
    });
    messages.iter().map(Message::encode_to_vec).collect()
}

fn releases() -> Vec<Vec<u8>> {
    let message = v1::ReleaseRequest {
        lease: Some(lease()),
        kind: v1::ReleaseKind::Corrupt.into(),
        reason: "its checksum is another".to_owned(),
        object: "x.weights.safetensors".to_owned(),
    };
    vec![message.encode_to_vec()]
}

fn snapshots() -> Vec<Vec<u8>> {
    let run = |name: &str, state: v1::TaskState| v1::RunStatus {
        name: name.to_owned(),
        backbone: "vgg16".to_owned(),
        state: state.into(),
        attempt: 2,
        worker: "gpu-3@node7".to_owned(),
        epochs_committed: 2,
        steps_committed: 40,
        epochs: 50,
        metrics: Some(metrics()),
        early_stopping: Some(early_stopping()),
        progress: Some(progress()),
        eta_ms: Some(1_000_000),
        reason: "its lease expired".to_owned(),
        stalled_ms: Some(70_000),
        awaited_ms: Some(15_000),
    };
    let states = [
        v1::TaskState::Leased,
        v1::TaskState::Failed,
        v1::TaskState::Finished,
    ];
    let message = v1::Snapshot {
        experiment: "fer2013".to_owned(),
        term: 3,
        state: v1::ExperimentState::Training.into(),
        workers_expected: 4,
        runs: states
            .iter()
            .enumerate()
            .map(|(n, state)| run(&format!("r{n}"), *state))
            .collect(),
        workers: vec![v1::WorkerStatus {
            id: "0123456789abcdef".to_owned(),
            name: "gpu-3@node7".to_owned(),
            device: "CPU (flex, 2 threads)".to_owned(),
            state: v1::WorkerState::Busy.into(),
            task: lease().task,
            since_heartbeat_ms: 200,
        }],
        uptime_ms: 725_000,
        evaluation: Some(v1::EvaluationStatus {
            state: v1::TaskState::Leased.into(),
            attempt: 1,
            worker: "gpu-3@node7".to_owned(),
            progress: Some(progress()),
            reason: String::new(),
            stalled_ms: None,
            awaited_ms: Some(100),
            splits: vec![v1::SplitAccuracy {
                split: "valid".to_owned(),
                images: 3589,
                accuracy: 0.7,
            }],
        }),
    };
    vec![message.encode_to_vec()]
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
        let watch = v1::WatchRequest { min_interval_ms: 7 };
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
                receive(bytes, |_: v1::WatchRequest| Ok(())),
                receive(bytes, |_: v1::GetSnapshotRequest| Ok(())),
                receive(bytes, |_: v1::CommitCheckpointResponse| Ok(())),
                receive(bytes, |_: v1::CompleteResponse| Ok(())),
                receive(bytes, |_: v1::ReleaseResponse| Ok(())),
            ];
            all.into_iter()
                .find(Result::is_ok)
                .unwrap_or_else(|| Err("none of them".to_owned()))
        },
    );
}
