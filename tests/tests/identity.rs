//! Keys and secrets: who may do what, on real processes.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use quartet_proto::v1::{self, ReleaseKind, worker_message};
use quartet_shared::ids::Epoch;
use quartet_shared::task::LeaseId;
use quartet_tests::job::Job;
use quartet_tests::played_worker::{PlayedWorker, header};
use quartet_tests::ports;
use quartet_tests::processes::{
    Coordinator, Process, Watch, files, hello, output, secret, worker_command,
};
use quartet_tests::programs::command;
use tonic::{Code, Status};

/// Enough epochs that nothing ends by itself.
const EPOCHS: u32 = 500;

/// An experiment, and the keys of its fleet.
struct Fleet {
    job: Job,
    keys: PathBuf,
}

impl Fleet {
    fn new() -> Self {
        let job = Job::new(EPOCHS, 4);
        let keys = job.path("keys");
        let (text, errors, status) = output(command("coordinator").arg("keys").arg(&keys));
        assert!(status.success(), "{errors}");
        for part in [
            "new keys in",
            "coordinator.pem",
            "admin.pem",
            "ca.key",
            "days",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        Self { job, keys }
    }

    /// Keys of someone who has no others.
    fn add(&self, name: &str, role: &str) -> PathBuf {
        let mut add = command("coordinator");
        add.args(["keys", "add", name, "--role", role, "--tls"]);
        let (text, errors, status) = output(add.arg(&self.keys));
        assert!(status.success() && text.contains(name), "{text}{errors}");
        self.keys.join(name)
    }

    fn coordinator(&self) -> Coordinator {
        let mut coordinator = self.job.coordinator(1, "127.0.0.1:0");
        coordinator.args(["--heartbeat-interval", "100ms"]);
        Coordinator::spawn(coordinator.arg("--tls").arg(&self.keys))
    }
}

fn status(address: &str, keys: Option<&Path>, args: &[&str]) -> (String, String, Option<i32>) {
    let mut status = command("status");
    status.args(args).args(["--coordinator", address]);
    if let Some(keys) = keys {
        status.arg("--tls").arg(keys);
    }
    let (text, errors, ended) = output(&mut status);
    (text, errors, ended.code())
}

fn worker(address: &str, cache: &Path, keys: Option<&Path>) -> Command {
    let mut worker = worker_command(address, "w", cache);
    if let Some(keys) = keys {
        worker.arg("--tls").arg(keys);
    }
    worker
}

#[test]
fn each_may_do_what_its_keys_say() {
    let fleet = Fleet::new();
    let viewer = fleet.add("eve", "viewer");
    let node = fleet.add("node-7", "worker");
    let coordinator = fleet.coordinator();
    let (address, cache) = (&coordinator.address[..], fleet.job.path("cache"));

    // Without keys one is told so.
    let (_, errors, code) = status(address, None, &[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("--tls"), "{errors}");
    let (_, errors, ended) = output(&mut worker(address, &cache, None));
    assert_eq!(ended.code(), Some(2));
    assert!(
        errors.contains("refuses") && errors.contains("--tls"),
        "{errors}"
    );
    // Keys of another fleet are no keys.
    let other = Fleet::new();
    let (_, errors, code) = status(address, Some(&other.keys), &[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("not issued by the authority"), "{errors}");

    // A worker works, and a viewer watches it, and no more.
    let mut command = worker(address, &cache, Some(&node));
    let mut works = Process::spawn(&mut command);
    let mut watch = {
        let mut status = quartet_tests::programs::command("status");
        status.arg("--tls").arg(&viewer);
        Watch::spawn(status, address)
    };
    watch.until(|snapshot| (snapshot["runs"][0]["epochs_committed"].as_u64()? > 0).then_some(()));
    let (_, errors, code) = status(address, Some(&viewer), &["drain", "w"]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("eve") && errors.contains("admin"),
        "{errors}"
    );
    let (_, errors, code) = status(address, Some(&node), &["drain", "--all"]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("a worker may not change anything"),
        "{errors}"
    );
    let (_, errors, ended) = output(&mut worker(address, &cache, Some(&viewer)));
    assert_eq!(ended.code(), Some(2));
    assert!(errors.contains("worker.pem"), "{errors}");
    let (text, errors, code) = status(address, Some(&fleet.keys), &["drain", "w"]);
    assert_eq!(code, Some(0), "{text}{errors}");
    assert!(works.wait().success());
}

/// A handshake's first bytes: a record of 512 bytes, of which one comes.
const BEGUN: &[u8] = b"\x16\x03\x01\x02\x00\x01";

/// HTTP/2's first bytes, an empty SETTINGS frame, and pings, whose answers nobody reads.
fn pings() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend(b"\0\0\x08\x06\0\0\0\0\0pingpong".repeat(20_000));
    bytes
}

#[test]
fn who_shows_no_keys_does_not_stay() {
    let fleet = Fleet::new();
    let command = fleet.job.coordinator(1, "127.0.0.1:0");
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]);
    limited.arg(command.get_program()).args(command.get_args());
    limited.env("QUARTET_TLS", &fleet.keys);
    let coordinator = Coordinator::spawn(&mut limited);
    let connect = |bytes: &[u8]| {
        let mut stream = std::net::TcpStream::connect(&coordinator.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        // As much as there is room for.
        let _ = stream.write(bytes);
        stream
    };
    let pings = pings();
    let idle: Vec<_> = (0..96)
        .map(|index| connect([b"", BEGUN, &pings[..]][index % 3]))
        .collect();
    let mut command = worker(
        &coordinator.address,
        &fleet.job.path("cache"),
        Some(&fleet.keys),
    );
    command.args(["--give-up-after", "60s"]);
    let mut works = Process::spawn(&mut command);
    let mut status = quartet_tests::programs::command("status");
    status.arg("--tls").arg(&fleet.keys);
    Watch::spawn(status, &coordinator.address)
        .until(|snapshot| snapshot["runs"][0]["worker"].as_str().map(drop));
    assert_eq!(works.ended(), None);
    drop(idle);
}

#[test]
fn renewed_keys_are_taken_up_while_the_fleet_runs() {
    let fleet = Fleet::new();
    let mut coordinator = fleet.coordinator();
    let address = coordinator.address.clone();
    let mut command = worker(&address, &fleet.job.path("cache"), Some(&fleet.keys));
    let mut works = Process::spawn(&mut command);
    let watch = |fleet: &Fleet| {
        let mut status = quartet_tests::programs::command("status");
        status.arg("--tls").arg(&fleet.keys);
        Watch::spawn(status, &address)
    };
    watch(&fleet).until(|snapshot| snapshot["runs"][0]["worker"].as_str().map(drop));
    let certificate = fleet.keys.join("coordinator.pem");
    let before = fs::read(&certificate).unwrap();
    let mut renew = quartet_tests::programs::command("coordinator");
    let (text, errors, ended) = output(renew.arg("keys").arg(&fleet.keys).arg("renew"));
    assert!(
        ended.success() && text.contains("renewed"),
        "{text}{errors}"
    );
    assert_ne!(fs::read(&certificate).unwrap(), before);
    watch(&fleet).until(|snapshot| (snapshot["workers"][0]["state"] == "busy").then_some(()));
    assert_eq!((works.ended(), coordinator.process.ended()), (None, None));
}

#[test]
fn other_machines_need_keys_or_the_word_insecure() {
    let job = Job::new(EPOCHS, 4);
    let (text, errors, ended) = output(&mut job.coordinator(1, "0.0.0.0:0"));
    assert_eq!((text.as_str(), ended.code()), ("", Some(2)), "{errors}");
    for part in ["0.0.0.0:0", "coordinator keys", "--insecure"] {
        assert!(errors.contains(part), "{part:?} is not in {errors}");
    }
    let log = fs::File::create(job.path("log")).unwrap();
    let mut command = job.coordinator(1, &format!("0.0.0.0:{}", ports::free().port()));
    let coordinator = Coordinator::spawn(command.arg("--insecure").stderr(log));
    let port = coordinator.address.rsplit_once(':').unwrap().1;
    let (text, errors, code) = status(&format!("127.0.0.1:{port}"), None, &[]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(text.contains("insecure:"), "{text}");
    let log = fs::read_to_string(job.path("log")).unwrap();
    assert!(log.contains("insecure"), "{log}");
}

#[test]
fn a_local_fleet_makes_keys_and_uses_them() {
    let job = Job::new(EPOCHS, 4);
    let home = job.path("home");
    let mut command = job.coordinator(1, "127.0.0.1:0");
    let mut coordinator = Coordinator::spawn(command.arg("--local").env("XDG_CONFIG_HOME", &home));
    let address = coordinator.address.clone();
    assert!(home.join("quartet/keys/ca.key").exists());
    let (_, errors, code) = status(&address, None, &[]);
    assert_eq!(code, Some(1), "{errors}");
    let mut own = quartet_tests::programs::command("status");
    own.env("XDG_CONFIG_HOME", &home);
    Watch::spawn(own, &address).until(|snapshot| snapshot["runs"][0]["worker"].as_str().map(drop));
    coordinator.process.signal("INT");
    let ended = coordinator.process.wait();
    assert_eq!((ended.code(), ended.signal()), (Some(130), None));
}

/// What becomes of a worker's calls that show another worker's secret.
async fn impersonate(worker: &mut PlayedWorker, lease: &LeaseId) -> Vec<Status> {
    let wrong = || secret("impostor").bytes().into();
    let release = v1::ReleaseRequest {
        lease: Some(lease.clone().into()),
        kind: ReleaseKind::Failed.into(),
        reason: "I say so".to_owned(),
        object: String::new(),
        secret: wrong(),
        repeatable: false,
    };
    let complete = v1::CompleteRequest {
        lease: Some(lease.clone().into()),
        result: Some(v1::complete_request::Result::Evaluation("{}".into())),
        secret: wrong(),
    };
    let header = v1::CheckpointHeader {
        secret: wrong(),
        ..header(lease, Epoch(1), b"forged")
    };
    vec![
        worker.client.release(release).await.unwrap_err(),
        worker.client.complete(complete).await.unwrap_err(),
        worker.commit(header, b"forged").await.unwrap_err(),
    ]
}

/// A hello with another worker's secret.
fn forged_hello(id: &str, held: Option<LeaseId>) -> v1::WorkerMessage {
    let mut message = hello(id, held);
    if let Some(worker_message::Message::Hello(hello)) = &mut message.message {
        hello.secret = secret("impostor").bytes().into();
    }
    message
}

#[tokio::test]
async fn one_worker_cannot_act_for_another() {
    let job = Job::new(2, 16);
    let listen = ports::free().to_string();
    let start = || {
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(job.path("log"));
        let mut command = job.coordinator(2, &listen);
        Coordinator::spawn(command.env("QUARTET_LOG", "trace").stderr(log.unwrap()))
    };
    let mut coordinator = start();
    let mut honest = PlayedWorker::attach(&listen, "honest").await;
    let (lease, _) = honest.assigned().await;
    let mut impostor = PlayedWorker::attach(&listen, "impostor").await;
    for status in impersonate(&mut impostor, &lease).await {
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    }
    let refused = PlayedWorker::attach_with(&listen, forged_hello("honest", Some(lease.clone())));
    assert_eq!(refused.await.unwrap_err().code(), Code::PermissionDenied);
    let (snapshot, ..) = status(&listen, None, &["--json"]);

    // Nor with the next coordinator, which has only the record of the lease.
    coordinator.process.kill();
    let coordinator = start();
    let mut impostor = PlayedWorker::attach(&listen, "impostor").await;
    for status in impersonate(&mut impostor, &lease).await {
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    }
    let refused = PlayedWorker::attach_with(&listen, forged_hello("honest", Some(lease.clone())));
    assert_eq!(refused.await.unwrap_err().code(), Code::PermissionDenied);
    let mut honest = PlayedWorker::attach_with(&listen, hello("honest", Some(lease.clone())))
        .await
        .unwrap();
    let committed = honest.commit(header(&lease, Epoch(1), b"weights"), b"weights");
    committed.await.unwrap();

    // Nobody is shown a secret: not in snapshots, logs, the store, nor by its bytes.
    drop(coordinator);
    let secrets = ["honest", "impostor"].map(|id| secret(id).bytes());
    let mut shown = vec![snapshot.into_bytes(), fs::read(job.path("log")).unwrap()];
    assert!(shown[1].len() > 1000, "there is a log");
    let store = job.path("store");
    shown.extend(
        files(&store)
            .iter()
            .map(|file| fs::read(store.join(file)).unwrap()),
    );
    for bytes in shown {
        for secret in &secrets {
            let texts = [
                secret.clone(),
                hex::encode(secret).into_bytes(),
                format!("{secret:?}").into_bytes(),
                secret.escape_ascii().to_string().into_bytes(),
            ];
            for text in texts {
                assert!(!bytes.windows(text.len()).any(|window| window == text));
            }
        }
    }
}
