//! What a client sends never ends the coordinator, and never becomes a fact that does not follow from what
//! the coordinator knows. The client is the test itself.

use std::fs;
use std::process::Command;

use quartet_proto::v1::{self, ReleaseKind, complete_request, worker_message};
use quartet_shared::ids::{Attempt, Epoch, RunName};
use quartet_shared::outcome::{Outcome, StopReason};
use quartet_shared::task::{LeaseId, Task};
use quartet_store::layout::Layout;
use quartet_tests::job::Job;
use quartet_tests::played_worker::{PlayedWorker, header, secret_of};
use quartet_tests::ports;
use quartet_tests::processes::{Coordinator, hello, output};
use quartet_tests::programs::{command, without_keys};
use quartet_tests::s3::{BUCKET, environment};
use serde_json::Value;
use tonic::Code;

/// A coordinator of an experiment of two epochs.
struct Attacked {
    job: Job,
    coordinator: Coordinator,
    layout: Layout,
}

impl Attacked {
    fn start() -> Self {
        let job = Job::new(2, 16);
        Self {
            coordinator: Coordinator::spawn(&mut job.coordinator(1, "127.0.0.1:0")),
            layout: Layout::new("small".parse().unwrap()),
            job,
        }
    }

    async fn attach(&self, id: &str) -> PlayedWorker {
        PlayedWorker::attach(&self.coordinator.address, id).await
    }

    fn has(&self, key: &str) -> bool {
        self.job.path("store").join(key).exists()
    }

    /// What people see, which must be there whatever happened.
    fn status(&self) -> Value {
        let mut status = command("status");
        status.args(["--coordinator", &self.coordinator.address, "--json"]);
        let (text, errors, ended) = output(&mut status);
        assert!(ended.success(), "{errors}");
        serde_json::from_str(&text).unwrap()
    }

    /// How often a run has failed, by its newest attempt's number and its reason.
    fn reason(&self, run: &RunName) -> String {
        let status = self.status();
        let mut runs = status["runs"].as_array().unwrap().iter();
        let run = runs.find(|status| status["name"] == run.as_str()).unwrap();
        run["reason"].as_str().unwrap_or_default().to_owned()
    }
}

fn run_of(lease: &LeaseId) -> &RunName {
    match &lease.task {
        Task::Train(run) => run,
        Task::Evaluate => panic!("{lease} is of no run"),
    }
}

#[tokio::test]
async fn keys_that_are_no_blobs_are_refused() {
    let attacked = Attacked::start();
    let mut worker = attacked.attach("w1").await;
    for key in [
        "small/spec.json/x",
        "small/spec.json",
        "small/coordinators/000001.json",
        "../job.toml",
        "datasets/../small/spec.json",
        "datasets",
        "",
    ] {
        let key = key.to_owned();
        let read = worker
            .client
            .get_object(v1::GetObjectRequest { key, offset: 0 });
        assert_eq!(read.await.unwrap_err().code(), Code::PermissionDenied);
    }
    // One that could be there.
    let (lease, _) = worker.assigned().await;
    let run = run_of(&lease);
    let position = quartet_shared::position::Position::end_of(Epoch(1));
    let key = attacked.layout.weights(run, position, lease.attempt);
    let read = worker
        .client
        .get_object(v1::GetObjectRequest { key, offset: 0 });
    assert_eq!(read.await.unwrap_err().code(), Code::NotFound);
    attacked.status();
}

#[tokio::test]
async fn a_log_is_of_a_live_lease_and_has_no_gaps() {
    let attacked = Attacked::start();
    let mut worker = attacked.attach("w1").await;
    let (lease, _) = worker.assigned().await;
    let run = run_of(&lease).clone();
    let part = |lease: &LeaseId, number: u32, text: &str| v1::KeepLogRequest {
        lease: Some(lease.clone().into()),
        secret: secret_of(lease),
        number,
        text: text.to_owned(),
    };
    let stale = LeaseId {
        attempt: Attempt(lease.attempt.0 + 1),
        ..lease.clone()
    };
    let long = "x".repeat((64 << 10) + 1);
    for (request, code) in [
        (part(&lease, 1, &long), Code::InvalidArgument),
        (part(&lease, 1, ""), Code::InvalidArgument),
        (part(&lease, 2, "a gap\n"), Code::InvalidArgument),
        (part(&stale, 1, "stale\n"), Code::FailedPrecondition),
        (
            v1::KeepLogRequest {
                secret: vec![1; 16].into(),
                ..part(&lease, 1, "impostor\n")
            },
            Code::PermissionDenied,
        ),
    ] {
        let refused = worker.client.keep_log(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    let task = Task::Train(run);
    assert!(!attacked.has(&attacked.layout.log_part(&task, lease.attempt, 1)));
    for (number, text) in [
        (1, "one\n"),
        (1, "again\n"),
        (2, "t\x1b[2Jwo\n"),
        (1, "old\n"),
    ] {
        let kept = worker.client.keep_log(part(&lease, number, text)).await;
        kept.unwrap();
    }
    let kept = |number| {
        let key = attacked.layout.log_part(&task, lease.attempt, number);
        fs::read_to_string(attacked.job.path("store").join(key)).unwrap()
    };
    assert_eq!(
        (kept(1), kept(2)),
        ("one\n".to_owned(), "t[2Jwo\n".to_owned())
    );
    attacked.status();
}

#[tokio::test]
async fn a_name_is_short_and_printable() {
    let attacked = Attacked::start();
    for name in [
        String::new(),
        "x".repeat(129),
        "x".repeat(900_000),
        "x".repeat(4 << 20),
        "a\nb".to_owned(),
        "a\x1b[2J".to_owned(),
    ] {
        for device in [false, true] {
            let mut message = hello("w1", None);
            let Some(worker_message::Message::Hello(hello)) = &mut message.message else {
                unreachable!("it is a hello")
            };
            match device {
                true => hello.device = name.clone(),
                false => hello.name = name.clone(),
            }
            let address = &attacked.coordinator.address;
            let refused = PlayedWorker::attach_with(address, message).await;
            let status = refused.expect_err("it is refused");
            let code = status.code();
            // A message of 4 MB is not read at all.
            let known = [Code::InvalidArgument, Code::OutOfRange];
            assert!(known.contains(&code), "{status}");
        }
    }
    let status = attacked.status();
    assert_eq!(status["workers"].as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn a_long_reason_is_cut() {
    let attacked = Attacked::start();
    let mut worker = attacked.attach("w1").await;
    let (lease, _) = worker.assigned().await;
    let request = v1::ReleaseRequest {
        lease: Some(lease.clone().into()),
        kind: ReleaseKind::Failed.into(),
        reason: "no ".repeat(300_000),
        object: String::new(),
        secret: secret_of(&lease),
        repeatable: false,
    };
    worker.client.release(request).await.unwrap();
    let reason = attacked.reason(run_of(&lease));
    assert!(
        reason.starts_with("no no ") && reason.len() < 2000,
        "{reason}"
    );
}

#[tokio::test]
async fn early_stopping_and_outcome_must_follow_from_the_metrics() {
    let attacked = Attacked::start();
    let mut worker = attacked.attach("w1").await;
    let (lease, _) = worker.assigned().await;
    let run = run_of(&lease);
    let good = header(&lease, Epoch(1), b"weights");
    let stopping = good.early_stopping.unwrap();
    for made_up in [
        v1::EarlyStopping {
            best_epoch: 7,
            ..stopping
        },
        v1::EarlyStopping {
            best_epoch: u32::MAX,
            ..stopping
        },
        v1::EarlyStopping {
            best_valid_accuracy: 0.9,
            ..stopping
        },
        v1::EarlyStopping {
            wait: 1,
            ..stopping
        },
    ] {
        let mut header = good.clone();
        header.early_stopping = Some(made_up);
        let refused = worker.commit(header, b"weights").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    for (epoch, step) in [
        (u32::MAX, 0),
        (u32::MAX - 1, 1),
        (0, u32::MAX),
        (0, 0),
        (9, 0),
    ] {
        let mut header = good.clone();
        header.position = Some(v1::Position { epoch, step });
        worker.commit(header, b"weights").await.unwrap_err();
    }
    assert!(!attacked.has(&attacked.layout.manifests(run)));
    // What was refused is in nobody's way.
    for epoch in [Epoch(1), Epoch(2)] {
        let header = header(&lease, epoch, b"weights");
        worker.commit(header, b"weights").await.unwrap();
    }
    let outcome = Outcome {
        epochs: 2,
        best_epoch: Epoch(1),
        best_valid_accuracy: 0.0,
        stop_reason: StopReason::Epochs,
    };
    let mut complete = async |outcome: Outcome| {
        let request = v1::CompleteRequest {
            lease: Some(lease.clone().into()),
            result: Some(complete_request::Result::Training(outcome.into())),
            secret: secret_of(&lease),
        };
        worker.client.complete(request).await
    };
    for made_up in [
        Outcome {
            best_epoch: Epoch(2),
            ..outcome
        },
        Outcome {
            best_valid_accuracy: 0.9,
            ..outcome
        },
        Outcome {
            epochs: 3,
            ..outcome
        },
        Outcome {
            stop_reason: StopReason::EarlyStopping,
            ..outcome
        },
    ] {
        let refused = complete(made_up).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(!attacked.has(&attacked.layout.outcome(run)));
    }
    complete(outcome).await.unwrap();
    assert!(attacked.has(&attacked.layout.outcome(run)));
}

#[tokio::test]
async fn a_lease_speaks_for_its_own_run_alone() {
    let attacked = Attacked::start();
    let mut honest = attacked.attach("w1").await;
    let (lease, _) = honest.assigned().await;
    honest
        .commit(header(&lease, Epoch(1), b"weights"), b"weights")
        .await
        .unwrap();
    let run = run_of(&lease);
    let position = quartet_shared::position::Position::end_of(Epoch(1));
    let weights = attacked.layout.weights(run, position, lease.attempt);
    // It is damaged, and would be rolled back if its own worker or the evaluation said so.
    std::fs::write(attacked.job.path("store").join(&weights), b"damaged").unwrap();
    let mut other = attacked.attach("w2").await;
    let (others, _) = other.assigned().await;
    assert_ne!(others.task, lease.task);
    other
        .release(&others, ReleaseKind::Corrupt, &weights)
        .await
        .unwrap();
    assert!(attacked.has(&attacked.layout.manifest(run, Epoch(1))));
    assert!(
        !attacked.reason(run_of(&others)).is_empty(),
        "it counts as a failure"
    );
    honest
        .release(&lease, ReleaseKind::Corrupt, &weights)
        .await
        .unwrap();
    assert!(!attacked.has(&attacked.layout.manifest(run, Epoch(1))));
}

/// Seconds of CPU time that a process has used.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name before it, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let mut fields = fields.split_whitespace().skip(11);
    let ticks: u64 = fields
        .by_ref()
        .take(2)
        .map(|n| n.parse::<u64>().unwrap())
        .sum();
    ticks as f64 / 100.0
}

#[tokio::test]
async fn idle_connections_take_neither_the_cores_nor_the_store_away() {
    let job = Job::new(2, 16);
    let command = job.coordinator(1, "127.0.0.1:0");
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]);
    limited.arg(command.get_program()).args(command.get_args());
    without_keys(&mut limited);
    let coordinator = Coordinator::spawn(&mut limited);
    let connect = || std::net::TcpStream::connect(&coordinator.address).unwrap();
    let idle: Vec<_> = std::iter::repeat_with(connect).take(70).collect();
    // Its turn comes when the idle ones have been cut off, one load after the other.
    let mut worker = PlayedWorker::attach(&coordinator.address, "w1").await;
    let (lease, _) = worker.assigned().await;
    let header = header(&lease, Epoch(1), b"weights");
    worker.commit(header, b"weights").await.unwrap();
    let used = cpu_seconds(coordinator.process.id());
    assert!(used < 10.0, "{used} s");
    drop(idle);
}

/// An S3 server that has nothing and takes everything, whatever the conditions.
fn careless_s3() -> std::net::SocketAddr {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                head.push(line.to_lowercase());
            }
            let length = head
                .iter()
                .find_map(|line| line.strip_prefix("content-length:"));
            let length = length.map_or(0, |length| length.trim().parse().unwrap());
            stream.read_exact(&mut vec![0; length]).unwrap();
            let list = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
            let body = match head.first().is_some_and(|line| line.starts_with("get ")) {
                true => list,
                false => "",
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn a_store_that_overwrites_is_refused() {
    let location = format!("s3://{BUCKET}/prefix");
    let (_, errors, status) = output(
        command("coordinator")
            .args(["--listen", "127.0.0.1:0", "--store", &location])
            .envs(environment(careless_s3())),
    );
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(
        errors.contains(&location) && errors.contains("If-None-Match"),
        "{errors}"
    );
}

#[tokio::test]
async fn a_lease_of_another_experiment_at_the_same_address_is_refused() {
    let address = ports::free().to_string();
    let jobs = [Job::new(2, 16), Job::new(2, 16)];
    let mut leases = Vec::new();
    for job in &jobs {
        let mut coordinator = Coordinator::spawn(&mut job.coordinator(1, &address));
        let mut worker = PlayedWorker::attach(&coordinator.address, "w1").await;
        let (lease, _) = worker.assigned().await;
        if let Some(older) = leases.last() {
            // Only the experiment tells them apart.
            let alike = LeaseId {
                experiment: lease.experiment.clone(),
                ..LeaseId::clone(older)
            };
            assert_eq!(alike, lease);
            let refused = worker
                .commit(header(older, Epoch(1), b"theirs"), b"theirs")
                .await;
            assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
            let own = header(&lease, Epoch(1), b"own");
            worker.commit(own, b"own").await.unwrap();
        }
        leases.push(lease);
        coordinator.process.kill();
    }
}
