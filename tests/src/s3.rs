//! A real S3 server as a process, with one bucket, and requests to it that no code under test makes.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::http::{self, Answer};
use crate::ports;
use crate::processes::{LIMIT, Process};

/// The server's bucket.
pub const BUCKET: &str = "quartet";

/// The key that programs sign with, and which they must not show.
pub const SECRET_ACCESS_KEY: &str = "wJalr-not-to-be-shown-XUtn";

/// Objects are not for everyone, but the server believes every signature.
const SIGNED: (&str, &str) = (
    "Authorization",
    "AWS4-HMAC-SHA256 Credential=quartet/20260101/us-east-1/s3/aws4_request, \
     SignedHeaders=host, Signature=none",
);

/// The folder that `tests/chaos/prepare` made.
///
/// # Panics
/// If the environment variable `QUARTET_CHAOS` does not name one.
#[must_use]
pub fn prepared() -> PathBuf {
    let folder = std::env::var_os("QUARTET_CHAOS").map(PathBuf::from);
    let folder = folder.expect("QUARTET_CHAOS names the folder that tests/chaos/run prepares");
    assert!(folder.is_dir(), "{} is no folder", folder.display());
    folder
}

/// A running server. Dropped, it is killed, and its objects with it.
#[derive(Debug)]
pub struct S3 {
    address: SocketAddr,
    _process: Process,
}

impl S3 {
    /// Starts a server that lets everyone do everything, and makes the bucket. It logs to a file.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn start(log: &Path) -> Self {
        let server = Self::start_with(log, &[]);
        server.make_bucket();
        server
    }

    /// Starts a server that has the bucket and then lets nobody in: all keys are wrong.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn start_locked(log: &Path) -> Self {
        let server = Self::start_with(log, &[("INITIAL_NO_AUTH_ACTION_COUNT", "1")]);
        server.make_bucket();
        server
    }

    fn start_with(log: &Path, env: &[(&str, &str)]) -> Self {
        let address = ports::free();
        let log = File::create(log).expect("the log can be written");
        let errors = log.try_clone().expect("it is open");
        let process = Process::spawn(
            Command::new(prepared().join("venv/bin/moto_server"))
                .args(["-H", "127.0.0.1", "-p", &address.port().to_string()])
                .envs(env.iter().copied())
                .stdin(Stdio::null())
                .stdout(log)
                .stderr(errors),
        );
        let started = Instant::now();
        while http::request(address, "GET", "/moto-api/", &[], &[]).is_err() {
            assert!(started.elapsed() < LIMIT, "the S3 server does not answer");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Self {
            address,
            _process: process,
        }
    }

    fn make_bucket(&self) {
        let made = self.send("PUT", &format!("/{BUCKET}"), &[]);
        assert_eq!(made.status, 200, "the bucket is made");
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The bytes of an object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let answer = self.send("GET", &path(key), &[]);
        match answer.status {
            200 => Some(answer.body),
            404 => None,
            status => panic!("{key}: {status}"),
        }
    }

    /// Writes an object, whether it is there or not.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        assert_eq!(self.send("PUT", &path(key), bytes).status, 200, "{key}");
    }

    /// Deletes an object.
    pub fn delete(&self, key: &str) {
        assert_eq!(self.send("DELETE", &path(key), &[]).status, 204, "{key}");
    }

    /// The keys that begin with `prefix`, sorted.
    #[must_use]
    pub fn list(&self, prefix: &str) -> Vec<String> {
        let query = format!("/{BUCKET}?list-type=2&prefix={prefix}");
        let answer = self.send("GET", &query, &[]);
        let text = String::from_utf8(answer.body).expect("a listing is text");
        assert!(
            answer.status == 200 && text.contains("<IsTruncated>false"),
            "{text}"
        );
        let keys = text.split("<Key>").skip(1);
        let mut keys: Vec<String> = keys
            .map(|rest| rest.split('<').next().unwrap_or_default().to_owned())
            .collect();
        keys.sort_unstable();
        keys
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let answer = http::request(self.address, method, path, &[SIGNED], body);
        answer.unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }
}

/// Our keys have only characters that stand for themselves in a URL.
fn path(key: &str) -> String {
    format!("/{BUCKET}/{key}")
}

/// The variables by which programs find a server at this address.
#[must_use]
pub fn environment(server: SocketAddr) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID", "quartet".into()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY.into()),
        ("AWS_REGION", "us-east-1".into()),
        ("AWS_ENDPOINT", format!("http://{server}")),
        ("AWS_ALLOW_HTTP", "true".into()),
    ]
}
