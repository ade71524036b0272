//! The arguments of `coordinator`.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::{CommandFactory, Parser, Subcommand};
use quartet_identity::folder::{DEFAULT_DAYS, MAX_DAYS};
use quartet_identity::{KeyChoice, Role, choice};
use quartet_proto::channel::Connector;
use quartet_shared::address::DEFAULT_PORT;
use quartet_shared::ids::ExperimentName;

use crate::experiment::Request;
use crate::server::Timing;
use quartet_ingest::args::{self, DataArgs, NoteArgs};

const EXAMPLES: &str = "\
Examples:
  coordinator --workers 4 --local              the demo: drawn faces, 4 workers on this machine
  coordinator --workers 4 --data fer2013.csv   FER2013; start the workers yourself
  coordinator --workers 2 --data faces/ --experiment my.toml --store s3://bucket/prefix
  coordinator --data ck48/ --split 0.8,0.1,0.1 a folder for each class, without splits
  coordinator --data fer2013.csv --print-experiment > my.toml
  coordinator --name fer2013 --update --set epochs=80
                                               train a finished experiment for longer
  coordinator --serve --store runs             a queue: `status submit my.toml --data fer2013.csv` adds to it
  coordinator keys                             make keys; then --listen 0.0.0.0 lets other machines in
  coordinator keys add node7 --role worker     make a folder of keys to copy to a worker's machine

Started again with the same --store and --name it goes on where it was.
Exit status: 0 the ensemble of all runs is evaluated, 1 a run failed for good, 2 wrong arguments, data or
weights, 130 stopped by a signal.";

/// Trains an experiment on a fleet of workers and evaluates the ensemble.
#[derive(Debug, Parser)]
#[command(name = "coordinator", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    /// Workers that the fleet is expected to have; work begins with the first [default: 4; with --local one
    /// for each GPU, if there are any].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub workers: Option<u32>,
    /// Start the workers on this machine, restart those that crash, stop them at the end. They compute on its
    /// GPUs, or on the CPU if there are none.
    #[arg(long)]
    pub local: bool,
    /// With --local: compute on the CPU, whatever GPUs there are.
    #[arg(long, requires = "local")]
    pub cpu: bool,
    #[command(flatten)]
    pub(super) data: DataArgs,
    /// Where everything is kept: a directory or s3://bucket/prefix (credentials and endpoint from AWS_*
    /// variables).
    #[arg(
        long,
        value_name = "URL|DIR",
        env = "QUARTET_STORE",
        default_value = "./runs"
    )]
    pub store: String,
    /// What to train: fer2013 (the default with --data), demo (the default for synthetic data), or a TOML
    /// file.
    #[arg(long, value_name = "PRESET|FILE.toml")]
    pub experiment: Option<String>,
    /// Another value for a key of the experiment, such as epochs=2 or vgg16.learning_rate=1e-4; it can be
    /// given several times. Without --experiment the others are those that the store has, if it has them.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Change an experiment that the store has where it differs from what is asked for, and go on: more
    /// epochs or patience, other runs or ensemble weights, other settings of runs that have no epochs or
    /// have failed. What is done is kept.
    #[arg(long, conflicts_with_all = ["fork", "print_experiment"])]
    pub update: bool,
    /// Begin another experiment (--name) with the data, weights and settings of this one of the same store.
    #[arg(long, value_name = "NAME", requires = "name", conflicts_with_all = ["data", "print_experiment"])]
    pub fork: Option<ExperimentName>,
    /// Name of the experiment, its folder in the store [default: as the experiment says].
    #[arg(long)]
    pub name: Option<ExperimentName>,
    #[command(flatten)]
    pub(super) note: NoteArgs,
    /// Train the experiments of the store's queue one after the other, as `status submit` puts them there,
    /// until this is told to stop. Workers started with --stay go from one to the next.
    #[arg(
        long,
        conflicts_with_all = [
            "data", "experiment", "settings", "update", "fork", "name", "note", "tags", "print_experiment",
        ]
    )]
    pub serve: bool,
    /// Address to listen on; 0.0.0.0 for all of this machine's. The port is 50051 unless it says otherwise.
    #[arg(long, value_name = "HOST[:PORT]", default_value = "127.0.0.1:50051", value_parser = listen_address)]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub(super) keys: KeyChoice,
    /// Print the TOML of what would be trained, to be edited and passed to --experiment, and exit.
    #[arg(long)]
    pub print_experiment: bool,
    /// Print a completion script for this shell and exit.
    #[arg(long, value_name = "SHELL")]
    pub completions: Option<clap_complete::Shell>,
    // The last: what follows would come under their heading.
    #[command(flatten)]
    pub(super) timing: TimingArgs,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the keys of a fleet, or show them.
    ///
    /// An authority of your own, and keys for the coordinator, workers, viewers and admins. All programs find
    /// them in the default folder; other machines need `ca.pem` and what they are to be.
    Keys(KeysArgs),
}

/// Arguments of `keys`.
#[derive(Debug, clap::Args)]
pub(super) struct KeysArgs {
    /// The folder; --tls says the same.
    #[arg(value_name = "DIR")]
    pub(super) folder: Option<PathBuf>,
    /// Folder of the keys [default: $XDG_CONFIG_HOME/quartet/keys or ~/.config/quartet/keys].
    #[arg(long, value_name = "DIR", env = "QUARTET_TLS", value_parser = choice::path(), global = true)]
    pub(super) tls: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Option<KeysCommand>,
    /// How many days new certificates are good for.
    #[arg(
        long,
        value_name = "N",
        global = true,
        default_value_t = DEFAULT_DAYS,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DAYS))
    )]
    pub(super) days: u32,
}

/// What is done with keys that are there.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Make keys for another machine or person: a folder to copy there.
    Add {
        /// The name, as logs show it; the folder has it, too.
        name: String,
        /// coordinator, worker, viewer (watches) or admin (drains workers and retries runs, too).
        #[arg(long)]
        role: Role,
    },
    /// Issue all certificates anew, for the same private keys. Running programs take theirs up by themselves.
    Renew,
}

/// The fleet's timers.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Timers")]
pub(super) struct TimingArgs {
    /// How often workers send heartbeats.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    heartbeat_interval: Duration,
    /// How long a worker that is not heard of keeps its run.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    lease: Duration,
    /// How long a run waits for a worker whose connection has ended (a dead process ends it at once),
    /// although a spare stands by.
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = duration)]
    reattach_grace: Duration,
    /// How long the run of a live worker may stand still before another gets it.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    progress_timeout: Duration,
    /// How often a mid-epoch checkpoint is committed: the most that a death can cost [0: only at the end of
    /// epochs].
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    checkpoint_interval: Duration,
    /// How long workers may take to hand their runs back when the coordinator is told to stop.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    drain_grace: Duration,
}

/// A duration that fits the protocol's milliseconds.
fn duration(text: &str) -> Result<Duration, String> {
    let duration = match text {
        "0" => Duration::ZERO,
        text => humantime::parse_duration(text).map_err(|e| e.to_string())?,
    };
    match u32::try_from(duration.as_millis()) {
        Ok(_) => Ok(duration),
        Err(_) => Err("it is longer than 49 days".to_owned()),
    }
}

impl TimingArgs {
    /// The timers, if they fit each other.
    pub(super) fn timing(&self) -> anyhow::Result<Timing> {
        let Self {
            heartbeat_interval,
            lease,
            progress_timeout,
            ..
        } = *self;
        ensure!(
            !heartbeat_interval.is_zero(),
            "--heartbeat-interval must be longer than 0"
        );
        ensure!(
            lease >= heartbeat_interval * 2,
            "--lease {lease:?} must be at least twice --heartbeat-interval {heartbeat_interval:?}"
        );
        ensure!(
            progress_timeout >= lease,
            "--progress-timeout {progress_timeout:?} must not be shorter than --lease {lease:?}"
        );
        Ok(Timing {
            heartbeat_interval,
            lease,
            reattach_grace: self.reattach_grace,
            progress_timeout,
            checkpoint_interval: self.checkpoint_interval,
            drain_grace: self.drain_grace,
        })
    }
}

pub(super) fn print_completions(shell: clap_complete::Shell) {
    clap_complete::generate(
        shell,
        &mut Args::command(),
        "coordinator",
        &mut std::io::stdout(),
    );
}

impl Args {
    /// What the arguments ask for.
    pub(super) fn request(&self) -> anyhow::Result<Request> {
        let source = self.data.source();
        let experiment = self.experiment.as_deref();
        let mut spec = args::spec(experiment, &source)?;
        if let Some(name) = &self.name {
            spec.name = name.clone();
        }
        let mut request = Request::new(spec, source, self.listen.to_string(), Connector::tcp());
        request.spec_is_explicit = self.experiment.is_some();
        request.settings.clone_from(&self.settings);
        request.update = self.update;
        request.fork.clone_from(&self.fork);
        request.source_is_explicit = self.data.is_explicit();
        request.data = self.data.options();
        request.weights.folder = args::folder(experiment);
        request.note.clone_from(&self.note.note);
        request.tags.clone_from(&self.note.tags);
        Ok(request)
    }
}

/// An address of this machine, by name or number, with or without a port.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok((ip, DEFAULT_PORT).into());
    }
    let usage = || "use HOST:PORT, for example 0.0.0.0:50051 or localhost:0".to_owned();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| usage())?),
        None => (text, DEFAULT_PORT),
    };
    let host = host.trim_matches(['[', ']']);
    // A number alone is a port that lacks its host, not the address that it stands for in old notations.
    if host.is_empty() || host.contains(char::is_whitespace) || host.parse::<u64>().is_ok() {
        return Err(usage());
    }
    let found = (host, port).to_socket_addrs();
    let known = found.ok().and_then(|mut addresses| addresses.next());
    known.ok_or_else(|| format!("no address is known of the host {host}; {}", usage()))
}

#[cfg(test)]
mod tests;
