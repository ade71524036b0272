//! The command line of `status`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use quartet_identity::KeyChoice;
use quartet_ingest::args::{self, DataArgs, NoteArgs};
use quartet_ingest::weights::{self, HubConfig};
pub use quartet_shared::address::Address;
use quartet_shared::ids::{ExperimentName, RunName};

use crate::queue::Submission;
use crate::stored::{DEFAULT_STORE, FormatFlags};

const EXAMPLES: &str = "\
Examples:
  status                                      the coordinator on this machine, once
  status --coordinator node7:50051 --follow   until the experiment has ended
  status --follow > progress.log              one line per change
  status --json | jq '.runs[].metrics'        for scripts
  status --follow --json                      one JSON object per line and change
  status drain gpu-3@node7                    have a worker hand its run back and exit
  status retry vgg16                          give a run that failed another budget
  status drain --all                          have all workers do so, those with --stay, too
  status list runs                            all experiments of a store, running or not
  status list runs --tag baseline             those with a tag
  status show runs/fer2013                    one of them; --json has all, --csv a line for each epoch
  status compare runs/fer2013 runs/other      accuracies, times, and where their settings differ
  status report runs/fer2013                  report.html: curves, confusion matrices, all settings
  status logs vgg16 --follow                  what the worker that trains it says
  status logs vgg16 --attempt 1 --experiment runs/fer2013
  status submit my.toml --data fer2013.csv --priority 1
                                              put an experiment into the queue of `coordinator --serve`
  status queue                                what waits, is trained and has ended
  status --name other --follow                one of several that are trained
  status cancel other                         take it out of the queue
  status page                                 a link to the coordinator's page, live in a browser
  status --completions bash                   completions for a shell

Exit status:
  0    a snapshot was shown, or the experiment that was followed finished
  1    the experiment that was followed failed, or the coordinator cannot be reached, or something cannot be
       read or written
  2    wrong usage, or no such store, experiment, run or attempt
  130  interrupted";

/// Shows how far the runs and the workers of a coordinator are.
#[derive(Debug, Parser)]
#[command(name = "status", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What else to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to show.
    #[command(flatten)]
    pub options: Options,
    /// Prints completions for a shell, and exits.
    #[arg(long, value_name = "SHELL")]
    pub completions: Option<Shell>,
}

impl Cli {
    /// An option before the command that means nothing to it.
    ///
    /// # Errors
    /// Which one, and which commands it is for.
    pub fn check(&self) -> Result<(), String> {
        let Some(command) = &self.command else {
            return Ok(());
        };
        let (is_table, is_log) = match command {
            Command::Queue { .. }
            | Command::List { .. }
            | Command::Show { .. }
            | Command::Compare { .. } => (true, false),
            Command::Logs { .. } => (false, true),
            Command::Drain { .. }
            | Command::Retry { .. }
            | Command::Submit(_)
            | Command::Cancel { .. }
            | Command::Page { .. }
            | Command::Report { .. } => (false, false),
        };
        if self.options.json && !is_table {
            return Err(
                "--json is for status itself, and for list, show, compare and queue".into(),
            );
        }
        if self.options.follow && !is_log {
            return Err("--follow is for status itself, and for logs".into());
        }
        Ok(())
    }
}

/// What else the program does.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Have a worker commit its state, hand its run back, and exit, even if it was started with --stay.
    Drain {
        /// Its name, or its id where several have the name.
        #[arg(required_unless_present = "all")]
        worker: Option<String>,
        /// All workers that are connected.
        #[arg(long, conflicts_with = "worker")]
        all: bool,
        /// Which keys to show.
        #[command(flatten)]
        keys: KeysHere,
    },
    /// Give a run that has failed for good another budget, while the others are trained.
    Retry {
        /// The run.
        run: RunName,
        /// Which keys to show.
        #[command(flatten)]
        keys: KeysHere,
    },
    /// Show the queue of a coordinator: what waits, what is trained, and what has ended.
    Queue {
        /// Which keys to show.
        #[command(flatten)]
        keys: KeysHere,
        /// How to print it.
        #[command(flatten)]
        format: FormatFlags,
    },
    /// Put an experiment with its data and weights into the queue of a `coordinator --serve`. One that was
    /// submitted before, and is the same, goes on where it was.
    Submit(SubmitArgs),
    /// Take an experiment out of the queue. One that is trained keeps what is committed.
    Cancel {
        /// The experiment.
        experiment: ExperimentName,
        /// Which keys to show.
        #[command(flatten)]
        keys: KeysHere,
    },
    /// Print a link to the coordinator's page, for a browser. Where keys are used, it is good once.
    Page {
        /// Which keys to show.
        #[command(flatten)]
        keys: KeysHere,
    },
    /// Print what the worker of a run has logged of it. Asks the coordinator, or a store.
    Logs {
        /// The run; evaluation for that of the ensemble.
        run: RunName,
        /// Which attempt at it; the newest unless given.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        attempt: Option<u32>,
        /// Goes on until the attempt has ended.
        #[arg(short, long)]
        follow: bool,
        /// Reads it from this experiment in its store, such as runs/fer2013, without a coordinator.
        #[arg(long, value_name = "STORE/NAME")]
        experiment: Option<String>,
        /// Which keys to show.
        #[command(flatten)]
        keys: KeysHere,
    },
    /// List the experiments of a store, running or not. Asks no coordinator.
    List {
        /// A directory, or s3://bucket/prefix.
        #[arg(value_name = "STORE", env = "QUARTET_STORE", default_value = DEFAULT_STORE)]
        store: String,
        /// Lists only those with this tag; given more than once, with all of them.
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// How to print it.
        #[command(flatten)]
        format: FormatFlags,
    },
    /// Show an experiment of a store, running or not. Asks no coordinator.
    Show {
        /// The store and the experiment's name in it, such as runs/fer2013.
        #[arg(value_name = "STORE/NAME")]
        place: String,
        /// How to print it.
        #[command(flatten)]
        format: FormatFlags,
    },
    /// Write the report of an experiment, finished or not, as one HTML file. Asks no coordinator.
    Report {
        /// The store and the experiment's name in it, such as runs/fer2013.
        #[arg(value_name = "STORE/NAME")]
        place: String,
        /// The file to write; - for standard output.
        #[arg(long, value_name = "FILE", default_value = "report.html")]
        out: PathBuf,
        /// Writes the figures as PNG files, too, into this folder.
        #[arg(long, value_name = "DIR")]
        png: Option<PathBuf>,
    },
    /// Compare experiments: accuracies, times, speeds, and the settings that differ.
    Compare {
        /// Stores and the experiments' names in them.
        #[arg(value_name = "STORE/NAME", required = true, num_args = 2..)]
        places: Vec<String>,
        /// How to print it.
        #[command(flatten)]
        format: FormatFlags,
    },
}

/// What is submitted.
#[derive(Clone, Debug, Args)]
pub struct SubmitArgs {
    /// What to train: fer2013, demo, or a TOML file [default: fer2013 with --data, else demo].
    #[arg(value_name = "PRESET|FILE.toml")]
    pub experiment: Option<String>,
    /// What to train on.
    #[command(flatten)]
    pub data: DataArgs,
    /// Another value for a key of the experiment, such as epochs=2 or vgg16.learning_rate=1e-4; it can be
    /// given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// How it is found again.
    #[command(flatten)]
    pub note: NoteArgs,
    /// Experiments of a higher priority come first; those that are trained already go on.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub priority: i32,
    /// Which keys to show.
    #[command(flatten)]
    pub keys: KeysHere,
}

impl SubmitArgs {
    /// What the arguments ask for, under the name of the options, if they have one.
    ///
    /// # Errors
    /// The experiment's file or a setting cannot be used.
    pub fn submission(&self, options: &Options) -> anyhow::Result<Submission> {
        let source = self.data.source();
        let named = self.experiment.as_deref();
        let mut experiment = args::spec(named, &source)?;
        if let Some(name) = &options.name {
            experiment.name = name.clone();
        }
        if !self.settings.is_empty() {
            experiment.set(&self.settings, "--set")?;
        }
        Ok(Submission {
            experiment,
            source,
            data: self.data.options(),
            weights: weights::Options {
                folder: args::folder(named),
                hub: HubConfig::from_env(),
            },
            note: self.note.note.clone(),
            tags: self.note.tags.clone(),
            priority: self.priority,
        })
    }
}

/// Which keys a command shows, where that is said after its name.
#[derive(Clone, Debug, Args)]
pub struct KeysHere {
    /// Folder of the keys; given before the command it says the same.
    #[arg(long = "tls", value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Use no keys; given before the command it says the same.
    #[arg(long)]
    insecure: bool,
}

impl KeysHere {
    /// The options with these keys, if any are named here.
    #[must_use]
    pub fn within(&self, options: &Options) -> Options {
        let here = KeyChoice {
            folder: self.folder.clone(),
            insecure: self.insecure,
        };
        Options {
            keys: here.or(&options.keys),
            ..options.clone()
        }
    }
}

/// What to show.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The coordinator's address; the port is 50051 unless given. With several, the first that answers.
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "QUARTET_COORDINATOR",
        value_delimiter = ',',
        default_value = "127.0.0.1:50051"
    )]
    pub coordinator: Vec<Address>,
    /// Which experiment of a coordinator that trains several [default: the first]; with submit, the name of
    /// the new one [default: as it says].
    #[arg(long, global = true, value_name = "NAME")]
    pub name: Option<ExperimentName>,
    /// Which keys to show.
    #[command(flatten)]
    pub keys: KeyChoice,
    /// Goes on until the experiment has ended: tables drawn anew on a terminal, else one line per change.
    #[arg(short, long)]
    pub follow: bool,
    /// JSON instead of tables; with --follow one object per line and change.
    #[arg(long)]
    pub json: bool,
    /// With --follow: how long the coordinator may be out of reach, such as 90s or 1h.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "5m",
        value_parser = humantime::parse_duration
    )]
    pub give_up_after: Duration,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let parsed = |arguments: &[&str]| {
            Cli::try_parse_from([&["status", "drain"], arguments].concat()).is_ok()
        };
        assert!(parsed(&["gpu-3@node7"]) && parsed(&["--all"]));
        assert!(!parsed(&[]) && !parsed(&["gpu-3@node7", "--all"]));
    }

    #[test]
    fn an_option_that_means_nothing_to_a_command_is_refused() {
        let check = |arguments: &[&str]| {
            let line = [&["status"], arguments].concat();
            Cli::try_parse_from(line).unwrap().check()
        };
        let meant: [&[&str]; 6] = [
            &["--json", "--follow"],
            &["--json", "list"],
            &["--json", "show", "runs/a"],
            &["--json", "compare", "runs/a", "runs/b"],
            &["--json", "queue"],
            &["--follow", "logs", "vgg16"],
        ];
        for arguments in meant {
            assert_eq!(check(arguments), Ok(()), "{arguments:?}");
        }
        let meaningless: [&[&str]; 8] = [
            &["--json", "logs", "vgg16"],
            &["--json", "drain", "--all"],
            &["--json", "retry", "vgg16"],
            &["--json", "submit", "my.toml"],
            &["--json", "report", "runs/a"],
            &["--follow", "queue"],
            &["--follow", "show", "runs/a"],
            &["--follow", "page"],
        ];
        for arguments in meaningless {
            let reason = check(arguments).unwrap_err();
            assert!(reason.starts_with(arguments[0]), "{arguments:?}: {reason}");
        }
    }
}
