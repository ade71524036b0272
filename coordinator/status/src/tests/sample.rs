//! Snapshots of an experiment from its beginning to its end.

use std::time::Duration;

use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::{Attempt, Epoch, Revision, Term};
use quartet_shared::progress::{EpochMetrics, Phase, Progress};
use quartet_shared::spec::Backbone;
use quartet_shared::task::Task;

use crate::snapshot::{
    EpochStatus, EvaluationStatus, ExperimentState, RunStatus, Snapshot, SplitAccuracy, TaskState,
    WorkerState, WorkerStatus,
};

const RUNS: [Backbone; 4] = [
    Backbone::InceptionResnetV2,
    Backbone::Vgg16,
    Backbone::Resnet50,
    Backbone::InceptionV3,
];

pub(crate) fn all() -> [Snapshot; 5] {
    [waiting(), training(), evaluating(), finished(), failed()]
}

/// No worker has come yet.
pub(crate) fn waiting() -> Snapshot {
    Snapshot {
        experiment: "fer2013".parse().unwrap(),
        revision: Revision::FIRST,
        term: Term(1),
        state: ExperimentState::Waiting,
        workers_expected: 4,
        runs: RUNS.map(pending).into(),
        workers: vec![],
        uptime: Duration::from_secs(3),
        eta: None,
        stopping: false,
        insecure: false,
        store_trouble: None,
        evaluation: EvaluationStatus {
            stalled: None,
            awaited: None,
            state: TaskState::Blocked,
            attempt: Attempt(0),
            worker: None,
            progress: None,
            reason: None,
            splits: vec![],
        },
    }
}

/// Two workers are there, a third was lost with its run.
pub(crate) fn training() -> Snapshot {
    let mut snapshot = waiting();
    snapshot.state = ExperimentState::Training;
    snapshot.uptime = Duration::from_secs(725);
    snapshot.workers = vec![
        worker(0, WorkerState::Busy, Some("inception_resnet_v2")),
        worker(1, WorkerState::Busy, Some("vgg16")),
        worker(2, WorkerState::Lost, None),
    ];
    let [first, second, third, _] = &mut snapshot.runs[..] else {
        unreachable!()
    };
    lease(first, 0);
    first.progress = Some(Progress {
        phase: Phase::Preparing,
        epoch: Epoch(0),
        epochs: 0,
        step: 0,
        steps: 0,
        images_per_second: 0.0,
        input_wait: None,
        loss: None,
        accuracy: None,
    });
    lease(second, 1);
    commit(second, 3, 0.47);
    second.progress = Some(Progress {
        phase: Phase::Training,
        epoch: Epoch(4),
        epochs: 8,
        step: 120,
        steps: 898,
        images_per_second: 1234.4,
        input_wait: Some(0.03),
        loss: Some(1.1875),
        accuracy: Some(0.5275),
    });
    second.eta = Some(Duration::from_secs(3900));
    snapshot.eta = Some(Duration::from_secs(12_345));
    lease(third, 2);
    third.state = TaskState::Pending;
    third.worker = None;
    third.reason = Some("worker gpu-2@node7 was lost: no heartbeat for 15 s".into());
    snapshot
}

/// All runs are trained; the evaluation is under way.
pub(crate) fn evaluating() -> Snapshot {
    let mut snapshot = training();
    snapshot.state = ExperimentState::Evaluating;
    snapshot.eta = None;
    snapshot.uptime = Duration::from_secs(7505);
    for (run, best) in snapshot.runs.iter_mut().zip([0.625, 0.47, 0.6, 0.615]) {
        *run = RunStatus {
            attempt: Attempt(run.attempt.0.max(1)),
            ..pending(run.backbone)
        };
        commit(run, 8, best);
        run.state = TaskState::Finished;
    }
    snapshot.workers = vec![
        worker(0, WorkerState::Busy, None),
        worker(1, WorkerState::Draining, None),
    ];
    snapshot.workers[0].task = Some(Task::Evaluate);
    snapshot.evaluation.state = TaskState::Leased;
    snapshot.evaluation.attempt = Attempt(1);
    snapshot.evaluation.worker = Some("gpu-0@node7".into());
    snapshot.evaluation.progress = Some(Progress {
        phase: Phase::Evaluating,
        epoch: Epoch(0),
        epochs: 0,
        step: 3,
        steps: 20,
        images_per_second: 900.0,
        input_wait: None,
        loss: None,
        accuracy: None,
    });
    snapshot
}

/// The ensemble's result is there.
pub(crate) fn finished() -> Snapshot {
    let mut snapshot = evaluating();
    snapshot.state = ExperimentState::Finished;
    snapshot.workers.clear();
    snapshot.evaluation.state = TaskState::Finished;
    snapshot.evaluation.worker = None;
    snapshot.evaluation.progress = None;
    snapshot.evaluation.splits = vec![
        SplitAccuracy {
            split: "valid".into(),
            images: 3589,
            accuracy: 0.721,
        },
        SplitAccuracy {
            split: "test".into(),
            images: 3589,
            accuracy: 0.7275,
        },
    ];
    snapshot
}

/// A run failed, for a reason that tries to play with the terminal.
pub(crate) fn failed() -> Snapshot {
    let mut snapshot = evaluating();
    snapshot.state = ExperimentState::Failed;
    snapshot.evaluation = waiting().evaluation;
    snapshot.workers.clear();
    let run = &mut snapshot.runs[1];
    *run = RunStatus {
        attempt: Attempt(3),
        ..pending(run.backbone)
    };
    run.state = TaskState::Failed;
    run.reason = Some("the loss is NaN\n\x1b[2Jin epoch 1".into());
    snapshot
}

/// The run has committed so many epochs, the last but one of which was the best.
pub(crate) fn commit(run: &mut RunStatus, epochs: u32, best: f64) {
    run.epochs_committed = epochs;
    run.metrics = Some(EpochMetrics {
        train_loss: 1.234,
        train_accuracy: 0.451,
        valid_loss: 1.3,
        valid_accuracy: best - 0.01,
        images_per_second: 1200.0,
        seconds: 42.5,
    });
    run.early_stopping = Some(EarlyStopping {
        best_epoch: Epoch(epochs - 1),
        best_valid_accuracy: best,
        wait: 1,
    });
    run.recent_epochs
        .extend(
            run.metrics
                .zip(run.early_stopping)
                .map(|(metrics, early_stopping)| EpochStatus {
                    epoch: Epoch(epochs),
                    metrics,
                    early_stopping,
                }),
        );
}

fn pending(backbone: Backbone) -> RunStatus {
    RunStatus {
        name: backbone.as_str().parse().unwrap(),
        backbone,
        state: TaskState::Pending,
        attempt: Attempt(0),
        worker: None,
        epochs_committed: 0,
        steps_committed: 0,
        epochs: 8,
        metrics: None,
        early_stopping: None,
        recent_epochs: vec![],
        progress: None,
        eta: None,
        stalled: None,
        awaited: None,
        reason: None,
    }
}

fn lease(run: &mut RunStatus, worker: u32) {
    run.state = TaskState::Leased;
    run.attempt = Attempt(1);
    run.worker = Some(format!("gpu-{worker}@node7"));
}

fn worker(number: u32, state: WorkerState, run: Option<&str>) -> WorkerStatus {
    WorkerStatus {
        gpu: None,
        stays: false,
        id: format!("w{number}").parse().unwrap(),
        name: format!("gpu-{number}@node7"),
        device: format!("cuda:{number} (NVIDIA H200)"),
        state,
        connected: state != WorkerState::Lost,
        task: run.map(|run| Task::Train(run.parse().unwrap())),
        since_heartbeat: Duration::from_millis(400),
    }
}
