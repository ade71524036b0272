//! Coordinators and workers as real processes. Dropped, they are killed.

use std::io::{BufRead, BufReader, Lines, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use quartet_proto::PROTOCOL_VERSION;
use quartet_proto::v1::{self, worker_message};
use quartet_shared::secret::Secret;
use quartet_shared::task::LeaseId;
use serde_json::Value;

use crate::programs::command;

/// Longest time that anything in a test may take.
pub const LIMIT: Duration = Duration::from_secs(300);

/// A process that does not outlive its test.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts a program.
    pub fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().expect("the program starts"))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// The process ids of its children, as Linux has them in `/proc`.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        let parent = self.id().to_string();
        let processes = std::fs::read_dir("/proc").expect("this is Linux");
        let child = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.ok()?;
            let id = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // After the name, which may be anything in parentheses: state, parent, ...
            let (_, rest) = stat.rsplit_once(") ")?;
            (rest.split(' ').nth(1)? == parent).then_some(id)
        };
        processes.filter_map(child).collect()
    }

    /// Sends it a signal, such as "TERM".
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.id().to_string()])
            .status();
        assert!(status.expect("kill runs").success(), "the process is there");
    }

    /// Kills it as `kill -9` does; how it ended, which is otherwise if it had ended before.
    pub fn kill(&mut self) -> ExitStatus {
        self.0.kill().expect("the process is ours");
        self.0.wait().expect("the process is ours")
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("the process is ours")
    }

    /// Waits until something has become true while it runs.
    pub fn until(&mut self, done: impl Fn() -> bool) {
        let started = Instant::now();
        while !done() {
            assert_eq!(self.ended(), None, "the process ended before that happened");
            assert!(started.elapsed() < PATIENCE, "that did not happen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(
                started.elapsed() < LIMIT,
                "process {} did not end",
                self.id()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running coordinator.
#[derive(Debug)]
pub struct Coordinator {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: String,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Coordinator {
    /// Starts a coordinator on a free port and waits until it listens.
    #[must_use]
    pub fn start(store: &Path, args: &[&str]) -> Self {
        Self::spawn(
            command("coordinator")
                .arg("--store")
                .arg(store)
                .args(["--listen", "127.0.0.1:0"])
                .args(args),
        )
    }

    /// Starts a coordinator by this command and waits until it listens.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the coordinator starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(stdout).lines();
        let process = Process(child);
        let address = lines
            .by_ref()
            .map(|line| line.expect("the coordinator writes text"))
            .find_map(|line| {
                let (_, rest) = line.split_once("listening on ")?;
                rest.split_whitespace().next().map(str::to_owned)
            })
            .expect("the coordinator says where it listens");
        Self {
            process,
            address,
            lines,
        }
    }

    /// What it still writes to its standard output, and how it ends.
    pub fn finish(mut self) -> (String, ExitStatus) {
        let text: Vec<String> = self.lines.by_ref().map_while(Result::ok).collect();
        (text.join("\n"), self.process.wait())
    }

    /// Starts a worker of this coordinator.
    #[must_use]
    pub fn worker(&self, name: &str, cache: &Path) -> Process {
        Process::spawn(&mut worker_command(&self.address, name, cache))
    }

    /// Watches the experiment as `status --follow --json` shows it. What happens from now on is seen.
    #[must_use]
    pub fn watch(&self) -> Watch {
        let mut watch = Watch::start(&self.address);
        let first = watch.lines.recv_timeout(PATIENCE);
        watch.first = Some(first.expect("the coordinator shows its experiment"));
        watch
    }
}

/// The command that starts a worker of these coordinators, which are separated by commas.
#[must_use]
pub fn worker_command(coordinators: &str, name: &str, cache: &Path) -> Command {
    let mut command = command("worker");
    command.args(["--coordinator", coordinators, "--name", name]);
    command.args(["--threads", "1", "--cache-dir"]).arg(cache);
    command
}

/// Longest time between two things that a test waits for.
const PATIENCE: Duration = Duration::from_secs(120);

/// The secret of a worker of this id that a test or a benchmark plays.
#[must_use]
pub fn secret(id: &str) -> Secret {
    let bits = id.bytes().fold(1, |bits: u128, byte| {
        bits.wrapping_mul(257) ^ u128::from(byte)
    });
    Secret::new(bits)
}

/// The first message of a worker that a test or a benchmark plays, which has this id and may hold a lease.
#[must_use]
pub fn hello(id: &str, held: Option<LeaseId>) -> v1::WorkerMessage {
    let hello = v1::Hello {
        protocol_version: PROTOCOL_VERSION,
        worker_id: id.to_owned(),
        name: id.to_owned(),
        device: "none".to_owned(),
        held: held.map(Into::into),
        term: 0,
        secret: secret(id).bytes().into(),
        provenance: None,
        ..v1::Hello::default()
    };
    v1::WorkerMessage {
        message: Some(worker_message::Message::Hello(hello)),
    }
}

/// The stream of snapshots of an experiment.
#[derive(Debug)]
pub struct Watch {
    process: Process,
    lines: Receiver<String>,
    /// A snapshot that nobody has looked at yet.
    first: Option<String>,
    last: String,
}

impl Watch {
    /// Watches the experiment of the coordinator at this address, which need not be there yet.
    #[must_use]
    pub fn start(coordinator: &str) -> Self {
        Self::spawn(command("status"), coordinator)
    }

    /// Watches by this command, which starts `status`.
    #[must_use]
    pub fn spawn(mut status: Command, coordinator: &str) -> Self {
        let mut child = status
            .args(["--coordinator", coordinator, "--follow", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("status starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if sender.send(line.expect("status writes text")).is_err() {
                    return;
                }
            }
        });
        Self {
            process: Process(child),
            lines,
            first: None,
            last: String::new(),
        }
    }

    /// The next snapshot for which `found` gives something. Once the experiment has ended, its last snapshot
    /// is looked at again.
    pub fn until<T>(&mut self, mut found: impl FnMut(&Value) -> Option<T>) -> T {
        let started = Instant::now();
        let mut again = false;
        loop {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let next = self.first.take().map(Ok);
            match next.unwrap_or_else(|| self.lines.recv_timeout(left)) {
                Ok(line) => self.last = line,
                // What a test waited for before may have come with the last one.
                Err(RecvTimeoutError::Disconnected) if !again && !self.last.is_empty() => {
                    again = true;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the experiment ended before that happened: {}", self.last)
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("that did not happen within {PATIENCE:?}: {}", self.last)
                }
            }
            let snapshot = serde_json::from_str(&self.last).expect("each line is a JSON object");
            if let Some(found) = found(&snapshot) {
                return found;
            }
        }
    }

    /// Reads to the end; how `status` ends.
    pub fn finish(mut self) -> ExitStatus {
        self.lines.iter().for_each(drop);
        self.process.wait()
    }
}

/// All files below a folder, relative to it, sorted.
#[must_use]
pub fn files(folder: &Path) -> Vec<PathBuf> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("the folder is readable") {
            let path = entry.expect("the folder is readable").path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.push(path.strip_prefix(root).expect("below the root").to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

/// The standard output of a finished program, its standard error, and how it ended.
pub fn output(command: &mut Command) -> (String, String, ExitStatus) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).map(|_| text)
    });
    let mut text = String::new();
    let mut stdout = child.stdout.take().expect("stdout is piped");
    stdout
        .read_to_string(&mut text)
        .expect("the program writes text");
    let status = child.wait().expect("the process is ours");
    let errors = errors
        .join()
        .expect("no panic")
        .expect("the program writes text");
    (text, errors, status)
}
