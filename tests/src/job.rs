//! A small experiment on a small CSV file, with a store of its own in a temporary folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::fixtures;
use crate::programs::command;

/// The experiment. Dropped, its files are deleted.
#[derive(Debug)]
pub struct Job {
    /// The file that describes the experiment.
    pub toml: PathBuf,
    data: PathBuf,
    folder: TempDir,
}

impl Job {
    /// Writes an experiment of so many epochs. The smaller its batches, the more steps an epoch has.
    ///
    /// # Panics
    /// If there is no room for temporary files.
    #[must_use]
    pub fn new(epochs: u32, batch_size: u32) -> Self {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        Self {
            data: fixtures::csv(folder.path()),
            toml: fixtures::experiment_of(folder.path(), epochs, batch_size),
            folder,
        }
    }

    /// A path within the job's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command that puts the experiment under this name into the queue of the coordinator at this
    /// address.
    #[must_use]
    pub fn submit(&self, name: &str, coordinator: &str) -> Command {
        let mut command = command("status");
        command.args(["--coordinator", coordinator, "submit"]);
        command.arg(&self.toml).arg("--data").arg(&self.data);
        command.args(["--name", name]);
        command
    }

    /// The command that starts a coordinator of the queue of the job's store, which listens on this address.
    #[must_use]
    pub fn serve(&self, listen: &str) -> Command {
        let mut command = command("coordinator");
        command.args([
            "--serve",
            "--listen",
            listen,
            "--heartbeat-interval",
            "100ms",
        ]);
        command.arg("--store").arg(self.path("store"));
        command
    }

    /// The command that starts a coordinator of the experiment, which listens on this address.
    #[must_use]
    pub fn coordinator(&self, workers: u32, listen: &str) -> Command {
        let mut command = command("coordinator");
        command.args(["--workers", &workers.to_string(), "--listen", listen]);
        command.arg("--data").arg(&self.data);
        command.arg("--experiment").arg(&self.toml);
        command.arg("--store").arg(self.path("store"));
        command
    }
}

/// The value that a JSON file holds.
///
/// # Panics
/// If the file is not there or holds another type.
#[must_use]
pub fn read_json<T: DeserializeOwned>(path: impl AsRef<Path>) -> T {
    let path = path.as_ref();
    let text = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
