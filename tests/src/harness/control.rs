//! Starts and ends the programs of a harness.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use super::Harness;
use crate::processes::{Coordinator, LIMIT, Process, Watch};
use crate::programs::{program, without_keys};
use crate::small_disk::SmallDisk;

impl Harness {
    /// The command that starts the coordinator, always with the same address, store and experiment.
    #[must_use]
    pub fn coordinator_command(&self) -> Command {
        let launcher = self.disk.as_ref().map(SmallDisk::launcher);
        let mut command = self.command("coordinator", launcher);
        command
            .args(["--workers", "2", "--listen", &self.address.to_string()])
            .args(["--store", &self.store.location()])
            .arg("--data")
            .arg(self.folder.join("faces.csv"))
            .arg("--experiment")
            .arg(self.folder.join("small.toml"))
            .args(self.timers.arguments())
            .envs(self.store.environment())
            .env("QUARTET_LOG", "info");
        command
    }

    /// The command that starts a program, by a launcher or not, with the fleet's keys if it has any.
    fn command(&self, name: &str, launcher: Option<Command>) -> Command {
        let program = program(name);
        let mut command = match launcher {
            Some(mut launcher) => {
                launcher.arg(program);
                launcher
            }
            None => Command::new(program),
        };
        without_keys(&mut command);
        if let Some(keys) = &self.keys {
            command.env("QUARTET_TLS", keys.path());
        }
        command
    }

    /// Starts the coordinator, again where it was if it had been started before, and waits until it listens.
    pub fn start_coordinator(&mut self) {
        let mut command = self.coordinator_command();
        self.coordinator = None;
        self.coordinator = Some(Coordinator::spawn(command.stderr(self.log("coordinator"))));
        if self.watch.is_none() {
            let status = self.command("status", None);
            self.watch = Some(Watch::spawn(status, &self.address.to_string()));
        }
    }

    /// Starts a worker.
    pub fn start_worker(&mut self, name: &str) {
        self.start_worker_of(name, self.address);
    }

    /// Starts a worker that reaches the coordinator through [`Self::to_coordinator`] only.
    pub fn start_worker_behind_proxy(&mut self, name: &str) {
        self.start_worker_of(name, self.to_coordinator.address());
    }

    fn start_worker_of(&mut self, name: &str, coordinator: SocketAddr) {
        let launcher = self.elsewhere.remove(name);
        let mut command = self.command("worker", launcher);
        let process = Process::spawn(
            command
                .args(["--coordinator", &coordinator.to_string(), "--name", name])
                .args(["--threads", "1", "--cache-dir"])
                .arg(self.folder.join("cache"))
                .env("QUARTET_LOG", "info")
                .stderr(self.log(name)),
        );
        self.workers.insert(name.to_owned(), process);
    }

    /// The log of a program of this name, to be appended to.
    fn log(&self, name: &str) -> File {
        let mut options = File::options();
        let file = options.append(true).create(true).open(self.log_path(name));
        file.expect("the folder is writable")
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// What a worker, or "coordinator", has logged so far.
    #[must_use]
    pub fn logged(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).expect("it has a log")
    }

    /// A worker that was started.
    ///
    /// # Panics
    /// If there is none of this name.
    #[must_use]
    pub fn worker(&self, name: &str) -> &Process {
        &self.workers[name]
    }

    /// Kills a worker, which must live.
    ///
    /// # Panics
    /// If it had ended by itself.
    pub fn kill_worker(&mut self, name: &str) {
        let mut process = self.workers.remove(name).expect("it was started");
        assert_killed(process.kill());
    }

    /// Kills all workers, which must live.
    pub fn kill_workers(&mut self) {
        self.kill_workers_but("");
    }

    /// Kills all workers but one.
    pub fn kill_workers_but(&mut self, spared: &str) {
        let names: Vec<String> = self.workers.keys().cloned().collect();
        for name in names.iter().filter(|name| *name != spared) {
            self.kill_worker(name);
        }
    }

    /// Kills the coordinator, which must live.
    ///
    /// # Panics
    /// If it had ended by itself.
    pub fn kill_coordinator(&mut self) {
        let mut coordinator = self.coordinator.take().expect("it was started");
        assert_killed(coordinator.process.kill());
    }

    /// Waits until the coordinator ends by itself; does something again and again meanwhile. How it ended.
    ///
    /// # Panics
    /// If it does not end.
    pub fn coordinator_ends(&mut self, mut meanwhile: impl FnMut(&Self)) -> ExitStatus {
        let mut coordinator = self.coordinator.take().expect("it was started");
        let started = Instant::now();
        loop {
            if let Some(status) = coordinator.process.ended() {
                return status;
            }
            assert!(started.elapsed() < LIMIT / 5, "the coordinator goes on");
            meanwhile(self);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn assert_killed(status: ExitStatus) {
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(status.signal(), Some(9), "it had ended by itself: {status}");
}
