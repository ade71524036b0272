//! Why initial weights cannot be had, said so that a person can act on it.

use std::io;
use std::path::{Path, PathBuf};

use quartet_history::HistoryError;
use quartet_shared::ids::RunName;
use quartet_shared::spec::{HubFile, OtherRun};

use super::checkpoint::RunProblem;
use super::hub::{HubConfig, HubProblem, url};

/// The initial weights of a run cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A file of this machine.
    #[error("weights of run {run}: {}: {problem}", .path.display())]
    File {
        /// The run.
        run: RunName,
        /// The file, as it was looked for.
        path: PathBuf,
        /// What is wrong with it.
        problem: FileProblem,
    },
    /// A checkpoint of another run.
    #[error("weights of run {run}: run {source_run}: {problem}")]
    Run {
        /// The run.
        run: RunName,
        /// The other run, as the key has it.
        source_run: String,
        /// What is wrong with it.
        problem: Box<RunProblem>,
    },
    /// A file of the hub.
    #[error("cannot download {name} for run {run} ({problem}). {advice}")]
    Hub {
        /// The run.
        run: RunName,
        /// Repository, revision where it is not the default one, and file.
        name: String,
        /// What went wrong.
        problem: Box<HubProblem>,
        /// What to do.
        advice: String,
    },
}

impl WeightsError {
    /// Whether a store could not be read, which may pass.
    #[must_use]
    pub fn is_of_store(&self) -> bool {
        let Self::Run { problem, .. } = self else {
            return false;
        };
        matches!(&**problem, RunProblem::Experiment(HistoryError::Store(error)) if !error.is_permanent())
    }
}

/// What is wrong with a file of weights.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// It does not exist.
    #[error(
        "no such file; weights of a run are \"none\", \"imagenet\", \"hub:OWNER/NAME\", \"run:NAME/RUN\" or \
         the path of a file, relative to the folder of the experiment's TOML file"
    )]
    NotFound,
    /// It is a directory.
    #[error("is a directory; name a file in it")]
    Directory,
    /// It has no bytes.
    #[error("is empty; copy or download it again")]
    Empty,
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// Git's stand-in for a large file.
    #[error(
        "is a Git LFS pointer, not the file itself; run `git lfs pull` where it comes from, \
         or download the file"
    )]
    LfsPointer,
    /// It begins like no format of weights.
    #[error(
        "is not a file of weights; expected safetensors, Keras (.h5, .weights.h5, .keras) or PyTorch (.pth, .pt, \
         .bin)"
    )]
    NotWeights,
    /// It was written to while it was read.
    #[error("changed while it was read; start again when it is complete")]
    Changed,
}

impl WeightsError {
    pub(super) fn file(run: &RunName, path: &Path, problem: FileProblem) -> Self {
        Self::File {
            run: run.clone(),
            path: path.to_owned(),
            problem,
        }
    }

    pub(super) fn run(run: &RunName, of: &OtherRun, problem: RunProblem) -> Self {
        Self::Run {
            run: run.clone(),
            source_run: of.to_string(),
            problem: Box::new(problem),
        }
    }

    pub(super) fn hub(
        run: &RunName,
        file: &HubFile,
        config: &HubConfig,
        problem: HubProblem,
    ) -> Self {
        let HubFile { repository, .. } = file;
        let mut name = format!("{repository}/{}", file.file());
        if file.revision() != HubFile::REVISION {
            name.push_str(&format!(" at revision {}", file.revision()));
        }
        let url = url(file, &config.endpoint);
        let elsewhere = |download: &str| {
            format!(
                "{download} {url} on another machine and set weights = \"FILE\" in the run \
                 (coordinator --print-experiment prints a TOML to start from)"
            )
        };
        let none = "weights = \"none\" to start from random weights";
        let advice = match &problem {
            HubProblem::Denied { with_token, .. } => {
                let token = match with_token {
                    false => "Set HF_TOKEN to a token of an account that may read it",
                    true => "The token that was sent may not read it: set HF_TOKEN to one that may",
                };
                format!("{token}, check the name, or {}", elsewhere("download"))
            }
            HubProblem::NotFound(_) => {
                format!(
                    "Correct the run's weights, or set {none}; repositories are listed at {}/models",
                    config.endpoint
                )
            }
            HubProblem::NoCache => {
                let elsewhere = elsewhere("download");
                format!("Set HF_HOME to a folder, or {elsewhere}, or set {none}")
            }
            HubProblem::Offline
            | HubProblem::Unreachable(_)
            | HubProblem::Damaged { .. }
            | HubProblem::Cache(_)
            | HubProblem::Unexpected(_) => {
                let cache = config.cache.as_deref().unwrap_or(Path::new("HF_HUB_CACHE"));
                let elsewhere = elsewhere("Download");
                format!(
                    "{elsewhere}, or fill the cache at {}, or set {none}",
                    cache.display()
                )
            }
        };
        Self::Hub {
            run: run.clone(),
            name,
            problem: Box::new(problem),
            advice,
        }
    }
}

impl From<io::Error> for FileProblem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::IsADirectory => Self::Directory,
            _ => Self::Unreadable(error),
        }
    }
}
