//! Messages with all their fields.

use prost::Message;
use quartet_proto::v1::{self, complete_request, coordinator_message, worker_message};
use quartet_shared::spec::Preset;

use crate::store::report;

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

fn gpu() -> v1::GpuUse {
    v1::GpuUse {
        busy_percent: Some(87),
        memory_used: 44_238_000_000,
        memory_total: 85_520_000_000,
        temperature: Some(63),
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
        input_wait: Some(0.25),
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

pub(super) fn worker_messages() -> Vec<Vec<u8>> {
    let hello = worker_message::Message::Hello(v1::Hello {
        protocol_version: quartet_proto::PROTOCOL_VERSION,
        worker_id: "0123456789abcdef".to_owned(),
        name: "gpu-3@node7".to_owned(),
        device: "CPU (flex, 2 threads)".to_owned(),
        held: Some(lease()),
        term: 4,
        secret: vec![7; 16].into(),
        provenance: Some(v1::Provenance {
            version: Some("0.1.0".to_owned()),
            host: Some("node7".to_owned()),
            gpu: Some("NVIDIA H200".to_owned()),
            ..v1::Provenance::default()
        }),
        stays: true,
        experiment_id: "fedcba9876543210".to_owned(),
        precisions: vec!["f32".to_owned(), "tf32".to_owned()],
    });
    let heartbeat = worker_message::Message::Heartbeat(v1::Heartbeat {
        progress: Some(progress()),
        gpu: Some(gpu()),
    });
    let messages = [hello, heartbeat].map(|message| v1::WorkerMessage {
        message: Some(message),
    });
    messages.iter().map(Message::encode_to_vec).collect()
}

pub(super) fn coordinator_messages() -> Vec<Vec<u8>> {
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
        predictions: object("x.safetensors"),
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
        coordinator_message::Message::Drain(v1::Drain {
            reason,
            looks_on: true,
        }),
    ];
    let messages = messages.map(|message| v1::CoordinatorMessage {
        message: Some(message),
    });
    messages.iter().map(Message::encode_to_vec).collect()
}

pub(super) fn checkpoints() -> Vec<Vec<u8>> {
    let header = v1::CheckpointHeader {
        lease: Some(lease()),
        position: Some(v1::Position { epoch: 2, step: 0 }),
        metrics: Some(metrics()),
        early_stopping: Some(early_stopping()),
        weights: Some(blob()),
        training_state: Some(blob()),
        secret: vec![7; 16].into(),
    };
    let parts = [
        v1::commit_checkpoint_request::Part::Header(header),
        v1::commit_checkpoint_request::Part::Chunk(vec![1; 300].into()),
    ];
    let messages = parts.map(|part| v1::CommitCheckpointRequest { part: Some(part) });
    messages.iter().map(Message::encode_to_vec).collect()
}

pub(super) fn completions() -> Vec<Vec<u8>> {
    let outcome = v1::TrainingOutcome {
        epochs: 9,
        best_epoch: 4,
        best_valid_accuracy: 0.5,
        stop_reason: v1::StopReason::EarlyStopping.into(),
    };
    let json = serde_json::to_vec(&report()).unwrap();
    let results = [
        complete_request::Result::Training(outcome),
        complete_request::Result::Evaluation(json.into()),
    ];
    let messages = results.map(|result| v1::CompleteRequest {
        lease: Some(lease()),
        result: Some(result),
        secret: vec![7; 16].into(),
    });
    messages.iter().map(Message::encode_to_vec).collect()
}

pub(super) fn releases() -> Vec<Vec<u8>> {
    let message = v1::ReleaseRequest {
        lease: Some(lease()),
        kind: v1::ReleaseKind::Corrupt.into(),
        reason: "its checksum is another".to_owned(),
        object: "x.weights.safetensors".to_owned(),
        secret: vec![7; 16].into(),
        repeatable: false,
    };
    vec![message.encode_to_vec()]
}

pub(super) fn snapshots() -> Vec<Vec<u8>> {
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
        recent_epochs: vec![v1::EpochStatus {
            epoch: 2,
            metrics: Some(metrics()),
            early_stopping: Some(early_stopping()),
        }],
    };
    let states = [
        v1::TaskState::Leased,
        v1::TaskState::Failed,
        v1::TaskState::Finished,
    ];
    let message = v1::Snapshot {
        insecure: true,
        eta_ms: Some(2_000_000),
        stopping: false,
        revision: 3,
        store_trouble: Some(v1::StoreTrouble {
            since_ms: 12_000,
            reason: "it does not answer".to_owned(),
        }),
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
            gpu: Some(gpu()),
            disconnected: true,
            stays: true,
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
