//! What the fleet's control costs: `cargo run --release -p quartet-tests --bin fleet-bench`. It prints a
//! table and asserts nothing.
//!
//! The coordinator is the real program. Workers are this program again: the real agent, with an executor
//! that hashes and sleeps.

mod experiment;
mod hostile;
mod pages;
mod scale;
mod worker;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use experiment::Keys;

/// Measures starts, failovers, the overhead of checkpoints, and how many workers one coordinator serves.
#[derive(Debug, Parser)]
#[command(name = "fleet-bench")]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// With keys: mutual TLS on all connections.
    #[arg(long, global = true)]
    with_keys: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Time from the start of everything to the first assignment.
    Start,
    /// Time from the SIGKILL of a worker to the first step of its run on a spare.
    Failover {
        /// How often.
        #[arg(long, default_value_t = 15)]
        times: u32,
    },
    /// Wall time of four runs of 8 one-second epochs with 20 MB checkpoints, over the ideal 8 seconds.
    Overhead,
    /// Heartbeats of many workers, one a second each.
    Scale {
        /// How many workers.
        #[arg(long, default_value_t = 10_000)]
        workers: usize,
        /// For how long.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// So many people have the page open, and the metrics are asked for each second. Without keys only.
        #[arg(long, default_value_t = 0)]
        pages: usize,
    },
    /// An honest fleet of 20 workers beside clients that mean no good, one kind after the other.
    Hostile {
        /// For how long each.
        #[arg(long, default_value_t = 15)]
        seconds: u64,
    },
    /// A worker that hashes: for the others.
    #[command(hide = true)]
    Worker(worker::Args),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let keys = if args.with_keys {
        Keys::With
    } else {
        Keys::Without
    };
    let done = match args.command {
        Some(Command::Worker(args)) => worker::run(args),
        Some(Command::Start) => experiment::start(keys),
        Some(Command::Failover { times }) => experiment::failover(times, keys),
        Some(Command::Overhead) => experiment::overhead(keys),
        Some(Command::Scale {
            workers,
            seconds,
            pages,
        }) => scale::run(workers, pages, Duration::from_secs(seconds), keys),
        Some(Command::Hostile { seconds }) => hostile::run(Duration::from_secs(seconds)),
        None => all(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn all() -> anyhow::Result<()> {
    for keys in [Keys::Without, Keys::With] {
        experiment::start(keys)?;
        experiment::failover(15, keys)?;
        experiment::overhead(keys)?;
        for workers in [1000, 10_000] {
            scale::run(workers, 0, Duration::from_secs(20), keys)?;
        }
    }
    scale::run(1000, 100, Duration::from_secs(20), Keys::Without)?;
    hostile::run(Duration::from_secs(15))?;
    Ok(())
}

/// A line of the table.
fn say(what: &str, value: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{what:<60} {value}")?)
}

/// Median of some durations, which are not none.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
