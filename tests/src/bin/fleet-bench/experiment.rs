//! Real processes: a coordinator, and workers that hash.

use std::fmt::{self, Write as _};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use quartet_identity::folder::DEFAULT_DAYS;
use quartet_identity::{KeyChoice, KeyFolder};
use quartet_tests::processes::{Coordinator, LIMIT, Process};
use quartet_tests::programs::command;
use tempfile::TempDir;

use super::{median, say};

/// An experiment of runs that only hash.
pub(super) struct Experiment {
    folder: TempDir,
    keys: Option<KeyFolder>,
}

/// Whether a fleet uses keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    With,
    Without,
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::With => ", TLS",
            Self::Without => "",
        })
    }
}

impl Experiment {
    pub(super) fn new(runs: usize, epochs: u32, keys: Keys) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut text = format!(
            "name = \"bench\"\nseed = 1\nimage_size = 48\nbatch_size = 32\n\
             epochs = {epochs}\npatience = {epochs}\n"
        );
        for run in 0..runs {
            write!(
                text,
                "\n[[run]]\nname = \"run{run}\"\nbackbone = \"vgg16\"\nwidth = 0.1\nlearning_rate = 1e-3\n"
            )?;
        }
        std::fs::write(folder.path().join("bench.toml"), text)?;
        let keys = match keys {
            Keys::With => {
                let keys = KeyFolder::new(folder.path().join("keys"));
                keys.create(DEFAULT_DAYS)?;
                Some(keys)
            }
            Keys::Without => None,
        };
        Ok(Self { folder, keys })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Which keys a program of the fleet uses.
    pub(super) fn choice(&self) -> KeyChoice {
        KeyChoice {
            folder: self.keys.as_ref().map(|keys| keys.path().to_owned()),
            insecure: self.keys.is_none(),
        }
    }

    pub(super) fn coordinator(&self) -> Coordinator {
        self.coordinator_by(command("coordinator"))
    }

    /// Starts the coordinator by this command.
    pub(super) fn coordinator_by(&self, mut command: Command) -> Coordinator {
        if let Some(keys) = &self.keys {
            command.arg("--tls").arg(keys.path());
        }
        command.args(["--workers", "4", "--listen", "127.0.0.1:0"]);
        command.arg("--experiment").arg(self.path("bench.toml"));
        command.arg("--store").arg(self.path("store"));
        command.env("QUARTET_LOG", "error");
        Coordinator::spawn(&mut command)
    }

    pub(super) fn worker(
        &self,
        coordinator: &str,
        step: Duration,
        bytes: usize,
    ) -> anyhow::Result<Worker> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["worker", "--coordinator", coordinator]);
        command.args(["--step-ms", &step.as_millis().to_string()]);
        command.args(["--bytes", &bytes.to_string()]);
        command.arg("--cache-dir").arg(self.path("cache"));
        match &self.keys {
            Some(keys) => command.arg("--tls").arg(keys.path()),
            None => command.arg("--insecure"),
        };
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let (sender, begun) = channel();
        std::thread::spawn(move || {
            for run in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), run)).is_err() {
                    return;
                }
            }
        });
        Ok(Worker {
            process: child.into(),
            begun,
        })
    }
}

/// A worker, and the runs that it has begun.
pub(super) struct Worker {
    process: Process,
    begun: Receiver<(Instant, String)>,
}

impl Worker {
    /// When it began its next run, and which.
    fn begins(&self) -> anyhow::Result<(Instant, String)> {
        Ok(self.begun.recv_timeout(LIMIT)?)
    }
}

/// Time from the start of everything to the first assignment.
pub(super) fn start(keys: Keys) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let experiment = Experiment::new(1, 1, keys)?;
        let started = Instant::now();
        let coordinator = experiment.coordinator();
        let worker = experiment.worker(&coordinator.address, Duration::from_millis(10), 3200)?;
        wait_for(&experiment.path("store/bench/runs/run0/attempts/0001.json"))?;
        times.push(started.elapsed());
        drop((coordinator, worker));
    }
    say(
        &format!("start of coordinator and worker to the first assignment{keys}"),
        &format!("{:.2} s (median of 5)", median(times).as_secs_f64()),
    )
}

fn wait_for(file: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    while !file.exists() {
        ensure!(
            started.elapsed() < LIMIT,
            "{} does not come",
            file.display()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Time from the SIGKILL of a worker to the begin of its run's training on a spare.
pub(super) fn failover(times: u32, keys: Keys) -> anyhow::Result<()> {
    const STEP: Duration = Duration::from_millis(50);
    let mut found = Vec::new();
    let experiment = Experiment::new(1, 1000, keys)?;
    let coordinator = experiment.coordinator();
    let mut busy = experiment.worker(&coordinator.address, STEP, 20_000_000)?;
    busy.begins()?;
    for _ in 0..times {
        let spare = experiment.worker(&coordinator.address, STEP, 20_000_000)?;
        let committed = epochs(&experiment)?;
        // An epoch later the spare has joined, and there is something to go on from.
        let started = Instant::now();
        while epochs(&experiment)? < committed + 3 {
            ensure!(started.elapsed() < LIMIT, "no epoch is committed");
            std::thread::sleep(Duration::from_millis(5));
        }
        let killed = Instant::now();
        busy.process.kill();
        let (begun, _) = spare.begins()?;
        found.push(begun.duration_since(killed));
        busy = spare;
    }
    let longest = found.iter().max().copied().unwrap_or_default();
    say(
        &format!("SIGKILL of a worker to its run training on a spare{keys}"),
        &format!(
            "{:.2} s (median of {times}; longest {:.2} s)",
            median(found).as_secs_f64(),
            longest.as_secs_f64()
        ),
    )
}

fn epochs(experiment: &Experiment) -> anyhow::Result<usize> {
    let folder = experiment.path("store/bench/runs/run0/epochs");
    match std::fs::read_dir(folder) {
        Ok(entries) => Ok(entries.count()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Wall time of four runs of 8 one-second epochs with 20 MB checkpoints, over the ideal.
pub(super) fn overhead(keys: Keys) -> anyhow::Result<()> {
    const EPOCHS: u32 = 8;
    const STEP: Duration = Duration::from_millis(250);
    let experiment = Experiment::new(4, EPOCHS, keys)?;
    let coordinator = experiment.coordinator();
    let started = Instant::now();
    let workers = (0..4).map(|_| experiment.worker(&coordinator.address, STEP, 20_000_000));
    let workers: Vec<_> = workers.collect::<Result<_, _>>()?;
    let begins: Vec<_> = workers
        .iter()
        .map(Worker::begins)
        .collect::<Result<_, _>>()?;
    let first = begins
        .iter()
        .map(|(at, _)| *at)
        .min()
        .context("four workers")?;
    for run in 0..4 {
        wait_for(&experiment.path(&format!("store/bench/runs/run{run}/outcome.json")))?;
    }
    let finished = Instant::now();
    let (text, status) = coordinator.finish();
    ensure!(status.success(), "{text}");
    let ideal = f64::from(EPOCHS);
    // The evaluation is a step long.
    let all = ideal + STEP.as_secs_f64();
    say(
        &format!("four runs of 8 one-second epochs, 20 MB checkpoints: wall / ideal{keys}"),
        &format!(
            "{:.3} ({:.3} with the workers' start, {:.3} with the evaluation)",
            finished.duration_since(first).as_secs_f64() / ideal,
            finished.duration_since(started).as_secs_f64() / ideal,
            started.elapsed().as_secs_f64() / all,
        ),
    )
}
