//! `--local`: worker processes on this machine, started, restarted after a crash, and stopped at the end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use quartet_shared::ids::WorkerId;
use quartet_shared::label::one_line;
use quartet_shared::terminal::Console;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::server::Exits;

/// Workers of a fleet of which nothing is said.
pub const DEFAULT_WORKERS: u32 = 4;
/// How long a worker program may take to say which GPUs it sees: their driver may have to be loaded.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Crashes in a row, each within [`HEALTHY`] of its start, after which a worker is given up.
const MAX_CRASHES: u32 = 5;
/// A worker that ran this long was fine when it started.
const HEALTHY: Duration = Duration::from_secs(30);
/// Exit status of a worker that cannot do what it is told, however often it is started.
const UNUSABLE: i32 = 2;
/// How long a local worker waits for an experiment: its coordinator ends it.
const FOR_EVER: &str = "10000d";
/// How long workers may take to leave by themselves at the end.
const GRACE: Duration = Duration::from_secs(30);

/// Local workers and who looks after them. Dropped, it kills them.
#[derive(Debug)]
pub struct LocalFleet {
    watchers: JoinSet<Option<anyhow::Error>>,
    stop: tokio::sync::watch::Sender<bool>,
}

/// A worker process, and the end of its input that tells it that we live.
#[derive(Debug)]
struct LocalWorker {
    id: WorkerId,
    child: Child,
    lifeline: Option<ChildStdin>,
}

/// What local workers compute on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Devices {
    /// The CPU, each with so many threads.
    Cpu {
        /// Threads of each.
        threads: u32,
    },
    /// These GPUs, each in turn.
    Gpus(Vec<usize>),
}

/// How to start local workers.
#[derive(Clone, Debug)]
pub struct LocalFleetConfig {
    /// How many.
    pub workers: u32,
    /// Where the coordinator listens.
    pub coordinator: SocketAddr,
    /// The program.
    pub program: PathBuf,
    /// What they compute on.
    pub devices: Devices,
    /// Folder of the keys, if any are used.
    pub keys: Option<PathBuf>,
    /// Whether they go from one experiment to the next, as long as the coordinator lives.
    pub stay: bool,
}

impl LocalFleetConfig {
    /// Workers of the program beside this one (or of the PATH), one for each GPU that the program sees,
    /// unless it is said how many. Without a GPU, or if they are to compute on the `cpu`, there are four, and
    /// the machine's CPUs are divided among them.
    pub async fn new(
        workers: Option<u32>,
        cpu: bool,
        coordinator: SocketAddr,
        keys: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let beside = std::env::current_exe()?.with_file_name("worker");
        let program = if beside.is_file() {
            beside
        } else {
            PathBuf::from("worker")
        };
        let gpus = match cpu {
            true => Vec::new(),
            false => gpus(&program).await.unwrap_or_else(|reason| {
                tracing::warn!(%reason, "it is not known which GPUs there are; local workers take the CPU");
                Vec::new()
            }),
        };
        let (workers, devices) = match &gpus[..] {
            [] => {
                let workers = workers.unwrap_or(DEFAULT_WORKERS);
                let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
                let threads = (cpus / workers.max(1)).max(1);
                (workers, Devices::Cpu { threads })
            }
            [_, ..] => {
                let workers = workers.unwrap_or(u32::try_from(gpus.len())?);
                (workers, Devices::Gpus(gpus))
            }
        };
        Ok(Self {
            workers,
            coordinator,
            program,
            devices,
            keys,
            stay: false,
        })
    }

    /// What a worker is told to compute on.
    fn device(&self, index: u32) -> String {
        match &self.devices {
            Devices::Cpu { threads } => format!("--threads={threads}"),
            Devices::Gpus(gpus) => format!("--gpu={}", gpus[index as usize % gpus.len()]),
        }
    }

    fn start(&self, index: u32, console: &Console) -> anyhow::Result<LocalWorker> {
        let id = WorkerId::from_number(rand::random());
        let mut command = Command::new(&self.program);
        command
            .arg(format!("--coordinator={}", self.coordinator))
            .arg(format!("--id={id}"))
            .arg(format!("--name=local-{index}"))
            .arg(self.device(index))
            // The worker hands its task back and exits when this end of its input closes, even if we are
            // killed.
            .arg("--exit-with-parent")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        if self.stay {
            command.args(["--stay", "--give-up-after", FOR_EVER]);
        }
        match &self.keys {
            Some(folder) => command.arg("--tls").arg(folder),
            None => command.arg("--insecure"),
        };
        if std::env::var_os("QUARTET_LOG").is_none() {
            command.env("QUARTET_LOG", "warn");
        }
        if console.shares_stderr() {
            // What it says must not be written over what is drawn.
            command.stderr(Stdio::piped());
        }
        // A signal from the terminal goes to the coordinator, which then stops its workers.
        command.process_group(0);
        let mut child = command.spawn().with_context(|| {
            format!(
                "cannot start {}: build it (cargo build --release) or put `worker` beside `coordinator` \
                 or on the PATH",
                self.program.display()
            )
        })?;
        // Taken out, because waiting for a child closes what is left in it.
        let lifeline = child.stdin.take();
        if let Some(errors) = child.stderr.take() {
            tokio::spawn(pass_on(errors, console.clone()));
        }
        Ok(LocalWorker {
            id,
            child,
            lifeline,
        })
    }
}

/// Writes what a worker says to stderr, line by line.
async fn pass_on(errors: ChildStderr, console: Console) {
    let mut errors = BufReader::new(errors);
    let mut line = Vec::new();
    while let Ok(1..) = errors.read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        console.write_error(format!("{}\n", one_line(text.trim_end())).as_bytes());
        line.clear();
    }
}

/// The GPUs that a worker program computes on, or why it does not say so.
async fn gpus(program: &Path) -> Result<Vec<usize>, String> {
    let asked = Command::new(program)
        .arg("gpus")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, asked).await;
    let shown = program.display();
    let text = match answer {
        Ok(Ok(answer)) if answer.status.success() => answer.stdout,
        Ok(Ok(answer)) => return Err(format!("`{shown} gpus` ended with {}", answer.status)),
        Ok(Err(error)) => return Err(format!("cannot start {shown}: {error}")),
        Err(_) => return Err(format!("`{shown} gpus` does not answer")),
    };
    let text = String::from_utf8_lossy(&text);
    let numbers = text
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok());
    Ok(numbers.collect())
}

impl LocalFleet {
    /// Starts the workers. The coordinator is told of those that end.
    pub fn start(
        config: &LocalFleetConfig,
        console: &Console,
        exits: &Exits,
    ) -> anyhow::Result<Self> {
        let stop = tokio::sync::watch::Sender::new(false);
        let mut watchers = JoinSet::new();
        for index in 0..config.workers {
            let worker = config.start(index, console)?;
            watchers.spawn(look_after(
                config.clone(),
                index,
                worker,
                stop.subscribe(),
                console.clone(),
                exits.clone(),
            ));
        }
        Ok(Self { watchers, stop })
    }

    /// Resolves with the reason when no local worker is left because each crashed again and again.
    pub async fn all_gone(&mut self) -> anyhow::Error {
        let mut last = anyhow::anyhow!("no local worker was started");
        let mut crashed = false;
        while let Some(gone) = self.watchers.join_next().await {
            // One that left by itself was sent home.
            if let Some(error) = gone.unwrap_or_else(|panic| Some(panic.into())) {
                tracing::error!("{error:#}");
                (last, crashed) = (error, true);
            }
        }
        if !crashed {
            std::future::pending::<()>().await;
        }
        last
    }

    /// Asks the workers to hand their tasks back and leave, waits, then kills what is left of them.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let left = async { while self.watchers.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, left).await.is_err() {
            tracing::warn!("some local workers did not leave in time and are killed");
        }
    }
}

async fn look_after(
    config: LocalFleetConfig,
    index: u32,
    mut worker: LocalWorker,
    mut stop: tokio::sync::watch::Receiver<bool>,
    console: Console,
    exits: Exits,
) -> Option<anyhow::Error> {
    let mut crashes = 0;
    loop {
        let started = Instant::now();
        let exit = tokio::select! {
            exit = worker.child.wait() => Some(exit),
            () = stopped(&mut stop) => None,
        };
        let Some(exit) = exit else {
            worker.lifeline = None;
            let _ = worker.child.wait().await;
            return None;
        };
        let how = match &exit {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let code = exit.as_ref().ok().and_then(std::process::ExitStatus::code);
        if code == Some(0) {
            return None;
        }
        exits.exited(&worker.id, &how);
        if code == Some(UNUSABLE) {
            return Some(anyhow::anyhow!(
                "local-{index} cannot work here, as it says above; it is not started again"
            ));
        }
        crashes = if started.elapsed() < HEALTHY {
            crashes + 1
        } else {
            1
        };
        if crashes >= MAX_CRASHES {
            return Some(anyhow::anyhow!(
                "local-{index} ended {crashes} times in a row ({how}); it is not started again"
            ));
        }
        tracing::warn!(worker = format!("local-{index}"), %how, "a local worker ended; starting it again");
        // The first restart is at once.
        let pause = Duration::from_millis(500) * (crashes - 1);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopped(&mut stop) => return None,
        }
        worker = match config.start(index, &console) {
            Ok(worker) => worker,
            Err(error) => return Some(error),
        };
    }
}

/// Resolves when the fleet is to stop, or is gone.
async fn stopped(stop: &mut tokio::sync::watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A worker program that answers `gpus` with this.
    fn program(answer: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker");
        std::fs::write(&path, format!("#!/bin/sh\n[ \"$1\" = gpus ] && {answer}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        (folder, path)
    }

    #[tokio::test]
    async fn gpus_are_those_that_the_worker_program_sees() {
        for (answer, expected) in [
            ("printf '0  LibTorch\\n1  LibTorch\\n'", &[0, 1][..]),
            ("true", &[]),
            ("echo no GPU", &[]),
        ] {
            let (_folder, path) = program(answer);
            assert_eq!(gpus(&path).await.unwrap(), expected, "{answer}");
        }
        let (_folder, path) = program("{ echo 0; exit 2; }");
        assert!(gpus(&path).await.unwrap_err().contains("exit status: 2"));
        let nowhere = gpus(Path::new("/nowhere/worker")).await;
        assert!(nowhere.unwrap_err().contains("/nowhere/worker"));
    }

    #[test]
    fn workers_take_gpus_in_turn() {
        let config = |devices| LocalFleetConfig {
            workers: 3,
            coordinator: ([127, 0, 0, 1], 7).into(),
            program: "worker".into(),
            devices,
            keys: None,
            stay: false,
        };
        let on_gpus = config(Devices::Gpus(vec![0, 1]));
        let devices = [0, 1, 2].map(|index| on_gpus.device(index));
        assert_eq!(devices, ["--gpu=0", "--gpu=1", "--gpu=0"]);
        assert_eq!(config(Devices::Cpu { threads: 2 }).device(5), "--threads=2");
    }
}
