//! What a worker sends has to fit what the coordinator knows: reports, sizes, speeds. The worker is the test
//! itself.

use std::time::Duration;

use quartet_proto::v1::{
    self, commit_checkpoint_request::Part, complete_request, keep_predictions_request,
};
use quartet_shared::blob::Blob;
use quartet_shared::dataset::{Dataset, Split};
use quartet_shared::ids::{Attempt, Epoch};
use quartet_shared::outcome::{Outcome, StopReason};
use quartet_shared::predictions::{Predictions, Shape};
use quartet_shared::report::{EVALUATED, EvaluationReport, Member, Prediction, SplitReport};
use quartet_shared::spec::Backbone;
use quartet_shared::task::{LeaseId, Task};
use quartet_store::layout::Layout;
use quartet_tests::job::Job;
use quartet_tests::played_worker::{PlayedWorker, header, secret_of};
use quartet_tests::processes::Coordinator;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

/// The report of an ensemble whose members guess alike.
fn report(dataset: &Dataset, members: Vec<Member>) -> EvaluationReport {
    let classes = &dataset.classes;
    let split = |split| {
        let labels = &dataset.split(split).labels;
        let guesses = vec![1.0 / classes.len() as f32; labels.len() * classes.len()];
        let predictions: Vec<_> = members
            .iter()
            .map(|member| Prediction {
                run: member.run.clone(),
                weight: member.weight,
                probabilities: &guesses,
            })
            .collect();
        SplitReport::compute(split, classes, labels, &predictions).unwrap()
    };
    EvaluationReport {
        experiment: "small".parse().unwrap(),
        classes: classes.clone(),
        splits: EVALUATED.map(split).into(),
        members,
        partial: None,
        revision: quartet_shared::ids::Revision::FIRST,
    }
}

/// An experiment whose runs are trained, with a worker that is to evaluate the ensemble.
struct Trained {
    job: Job,
    worker: PlayedWorker,
    lease: LeaseId,
    dataset: Dataset,
    // Killed when it is dropped.
    _coordinator: Coordinator,
}

impl Trained {
    async fn start() -> Self {
        let job = Job::new(2, 16);
        let coordinator = Coordinator::spawn(&mut job.coordinator(1, "127.0.0.1:0"));
        let mut workers = Vec::new();
        for id in ["w1", "w2"] {
            let mut worker = PlayedWorker::attach(&coordinator.address, id).await;
            let (lease, _) = worker.assigned().await;
            workers.push((worker, lease));
        }
        for (worker, lease) in &mut workers {
            for epoch in [Epoch(1), Epoch(2)] {
                let header = header(lease, epoch, b"weights");
                worker.commit(header, b"weights").await.unwrap();
            }
            let outcome = Outcome {
                epochs: 2,
                best_epoch: Epoch(1),
                best_valid_accuracy: 0.0,
                stop_reason: StopReason::Epochs,
            };
            let result = complete_request::Result::Training(outcome.into());
            worker.complete(lease, result).await.unwrap();
        }
        let (mut worker, _) = workers.swap_remove(0);
        let (lease, _) = worker.assigned().await;
        assert_eq!(lease.task, Task::Evaluate);
        let datasets = job.path("store").join("datasets");
        let dataset = std::fs::read_dir(datasets).unwrap().next().unwrap();
        let dataset = Dataset::decode(&std::fs::read(dataset.unwrap().path()).unwrap()).unwrap();
        Self {
            job,
            worker,
            lease,
            dataset,
            _coordinator: coordinator,
        }
    }
}

#[tokio::test]
async fn a_report_must_be_of_the_experiment() {
    let Trained {
        job,
        mut worker,
        lease,
        dataset,
        _coordinator,
    } = Trained::start().await;
    let layout = Layout::new("small".parse().unwrap());
    let member = |run: &str, backbone, best_epoch| Member {
        run: run.parse().unwrap(),
        backbone,
        best_epoch: Epoch(best_epoch),
        weight: 0.5,
    };
    let members = |best_epoch| {
        vec![
            member("vgg16", Backbone::Vgg16, best_epoch),
            member("residual", Backbone::Resnet50, 1),
        ]
    };
    let mut half = dataset.clone();
    for images in &mut half.splits {
        images.labels.truncate(images.labels.len() / 2);
    }
    let mut renamed = dataset.clone();
    renamed.classes[0] = "calm".to_owned();
    let mut without_test = report(&dataset, members(1));
    without_test.splits.pop();
    for (made_up, field) in [
        (report(&dataset, members(2)), "best_epoch"),
        (report(&half, members(1)), "images"),
        (report(&renamed, members(1)), "classes"),
        (without_test, "splits"),
    ] {
        made_up.validate().unwrap();
        let json = serde_json::to_vec(&made_up).unwrap();
        let result = complete_request::Result::Evaluation(json.into());
        let refused = worker.complete(&lease, result).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(field), "{refused}");
    }
    let evaluation = job.path("store").join(layout.results(None).evaluation());
    assert!(!evaluation.exists());
    assert!(!evaluation.with_extension("txt").exists());
    let json = serde_json::to_vec(&report(&dataset, members(1))).unwrap();
    let result = complete_request::Result::Evaluation(json.into());
    worker.complete(&lease, result).await.unwrap();
    assert!(evaluation.exists());
}

/// Sends predictions.
async fn keep(
    worker: &mut PlayedWorker,
    header: &v1::PredictionsHeader,
    bytes: &[u8],
) -> Result<(), Status> {
    let chunks = bytes.chunks(1000).map(<[u8]>::to_vec);
    let chunks = chunks.map(|chunk| keep_predictions_request::Part::Chunk(chunk.into()));
    let header = keep_predictions_request::Part::Header(header.clone());
    let parts: Vec<_> = std::iter::once(header)
        .chain(chunks)
        .map(|part| v1::KeepPredictionsRequest { part: Some(part) })
        .collect();
    let sent = worker.client.keep_predictions(tokio_stream::iter(parts));
    sent.await.map(drop)
}

#[tokio::test]
async fn predictions_must_be_of_the_experiment() {
    let Trained {
        job,
        mut worker,
        lease,
        dataset,
        _coordinator,
    } = Trained::start().await;
    let layout = Layout::new("small".parse().unwrap());
    let shape = Shape::of(&dataset);
    let guesses = |shape: &Shape, value: f32| {
        let rows = |(_, images): &(Split, u64)| vec![value; *images as usize * shape.classes()];
        let splits = shape.splits().iter().map(rows).collect();
        Predictions { splits }.encode(shape)
    };
    let even = 1.0 / dataset.classes.len() as f32;
    let good = guesses(&shape, even);
    let header = |bytes: &[u8]| v1::PredictionsHeader {
        lease: Some(lease.clone().into()),
        secret: secret_of(&lease),
        run: "vgg16".to_owned(),
        weights: Some(Blob::of(b"weights").into()),
        predictions: Some(Blob::of(bytes).into()),
    };
    let mut more = good.clone();
    more.extend_from_slice(&[0; 4]);
    let mut of_others = good.clone();
    of_others[10] ^= 1;
    let stale = LeaseId {
        attempt: Attempt(lease.attempt.0 + 1),
        ..lease.clone()
    };
    let training = LeaseId {
        task: Task::Train("vgg16".parse().unwrap()),
        ..lease.clone()
    };
    let of = |lease: LeaseId| v1::PredictionsHeader {
        lease: Some(lease.into()),
        ..header(&good)
    };
    let impostor = v1::PredictionsHeader {
        secret: vec![1; 16].into(),
        ..header(&good)
    };
    let unknown = v1::PredictionsHeader {
        run: "other".to_owned(),
        ..header(&good)
    };
    let of_other_weights = v1::PredictionsHeader {
        weights: Some(Blob::of(b"others").into()),
        ..header(&good)
    };
    let wrong = [
        of_others,
        guesses(&shape, f32::NAN),
        guesses(&shape, 1.5),
        guesses(&shape, 0.25),
    ];
    for (header, bytes, code) in [
        (of(stale), &good, Code::FailedPrecondition),
        (of(training), &good, Code::FailedPrecondition),
        (impostor, &good, Code::PermissionDenied),
        (unknown, &good, Code::FailedPrecondition),
        (of_other_weights, &good, Code::FailedPrecondition),
        (header(&more), &more, Code::InvalidArgument),
        (header(&good), &more, Code::InvalidArgument),
        (header(&more[..good.len()]), &wrong[1], Code::DataLoss),
        (header(&wrong[0]), &wrong[0], Code::InvalidArgument),
        (header(&wrong[1]), &wrong[1], Code::InvalidArgument),
        (header(&wrong[2]), &wrong[2], Code::InvalidArgument),
        (header(&wrong[3]), &wrong[3], Code::InvalidArgument),
    ] {
        let refused = keep(&mut worker, &header, bytes).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    let run = "vgg16".parse().unwrap();
    let manifest = layout.predictions_manifest(&run, Epoch(1), lease.attempt);
    let manifest = job.path("store").join(manifest);
    assert!(!manifest.exists());

    // The second answer is for a worker that missed the first.
    for _ in 0..2 {
        keep(&mut worker, &header(&good), &good).await.unwrap();
        assert!(manifest.exists());
    }
    let others = guesses(&shape, even * 1.001);
    let refused = keep(&mut worker, &header(&others), &others).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    let kept = layout.predictions(&run, Epoch(1), lease.attempt);
    assert_eq!(std::fs::read(job.path("store").join(&kept)).unwrap(), good);
    // The next evaluator gets them.
    let request = v1::GetObjectRequest {
        key: kept,
        offset: 0,
    };
    worker.client.get_object(request).await.unwrap();
}

#[tokio::test]
async fn gpus_are_seen_and_one_that_cannot_be_ends_the_stream() {
    let job = Job::new(2, 16);
    let coordinator = Coordinator::spawn(&mut job.coordinator(1, "127.0.0.1:0"));
    let mut worker = PlayedWorker::attach(&coordinator.address, "w1").await;
    let gpu = v1::GpuUse {
        busy_percent: Some(87),
        memory_used: 3 << 30,
        memory_total: 16 << 30,
        temperature: Some(63),
    };
    worker.heartbeat(gpu).await;
    let mut watch = coordinator.watch();
    let seen = move || {
        watch.until(|snapshot| {
            let gpu = snapshot["workers"][0]["gpu"].as_object()?;
            Some(serde_json::Value::from(gpu.clone()))
        })
    };
    let seen = tokio::task::spawn_blocking(seen).await.unwrap();
    let expected = serde_json::json!({
        "busy_percent": 87, "memory_used": 3_u64 << 30, "memory_total": 16_u64 << 30, "temperature": 63,
    });
    assert_eq!(seen, expected);
    worker
        .heartbeat(v1::GpuUse {
            busy_percent: Some(101),
            ..gpu
        })
        .await;
    // Gracefully or not.
    let ended = tokio::time::timeout(Duration::from_secs(60), worker.ended()).await;
    assert!(ended.is_ok(), "the stream goes on");
}

#[tokio::test]
async fn a_checkpoint_is_no_larger_than_its_network_can_be() {
    let job = Job::new(2, 16);
    let coordinator = Coordinator::spawn(&mut job.coordinator(1, "127.0.0.1:0"));
    let mut worker = PlayedWorker::attach(&coordinator.address, "w1").await;
    let (lease, _) = worker.assigned().await;
    for size in [u64::MAX, 1 << 40] {
        for field in ["weights", "training_state"] {
            let mut header = header(&lease, Epoch(1), b"weights");
            let blob = match field {
                "weights" => &mut header.weights,
                _ => &mut header.training_state,
            };
            blob.as_mut().unwrap().size = size;
            // Nothing but the header is sent, and the stream stays open.
            let header = v1::CommitCheckpointRequest {
                part: Some(Part::Header(header)),
            };
            let parts = tokio_stream::iter([header]).chain(tokio_stream::pending());
            let refused = worker.client.commit_checkpoint(parts).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
            assert!(refused.message().starts_with(field), "{refused}");
        }
    }
    let honest = header(&lease, Epoch(1), b"weights");
    worker.commit(honest, b"weights").await.unwrap();
}
