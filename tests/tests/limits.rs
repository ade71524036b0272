//! What a worker sends has to fit what the coordinator knows: reports, sizes, speeds. The worker is the test
//! itself.

use std::time::Duration;

use quartet_proto::v1::{self, commit_checkpoint_request::Part, complete_request};
use quartet_shared::dataset::Dataset;
use quartet_shared::ids::Epoch;
use quartet_shared::outcome::{Outcome, StopReason};
use quartet_shared::report::{EVALUATED, EvaluationReport, Member, Prediction, SplitReport};
use quartet_shared::spec::Backbone;
use quartet_shared::task::Task;
use quartet_store::layout::Layout;
use quartet_tests::job::Job;
use quartet_tests::played_worker::{PlayedWorker, header};
use quartet_tests::processes::Coordinator;
use tokio_stream::StreamExt as _;
use tonic::Code;

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
    }
}

#[tokio::test]
async fn a_report_must_be_of_the_experiment() {
    let job = Job::new(2, 16);
    let coordinator = Coordinator::spawn(&mut job.coordinator(1, "127.0.0.1:0"));
    let layout = Layout::new("small".parse().unwrap());
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
    let worker = &mut workers[0].0;
    let (lease, _) = worker.assigned().await;
    assert_eq!(lease.task, Task::Evaluate);
    let datasets = job.path("store").join("datasets");
    let dataset = std::fs::read_dir(datasets).unwrap().next().unwrap();
    let dataset = Dataset::decode(&std::fs::read(dataset.unwrap().path()).unwrap()).unwrap();
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
    let evaluation = job.path("store").join(layout.evaluation());
    assert!(!evaluation.exists());
    assert!(!evaluation.with_extension("txt").exists());
    let json = serde_json::to_vec(&report(&dataset, members(1))).unwrap();
    let result = complete_request::Result::Evaluation(json.into());
    worker.complete(&lease, result).await.unwrap();
    assert!(evaluation.exists());
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
