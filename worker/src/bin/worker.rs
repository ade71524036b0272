//! `worker`: trains and evaluates for a coordinator.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use quartet_shared::shutdown::Shutdown;
use quartet_shared::telemetry;
use quartet_worker::agent::{self, Ended, Settings};
use quartet_worker::device::{self, BackendChoice, TrainingDevice};

/// How long a worker whose parent is gone may take to hand its task back.
const ORPHAN_GRACE: Duration = Duration::from_secs(25);

const EXAMPLES: &str = "\
Examples:
  worker --coordinator host:50051                 train on this machine's CPU
  worker --coordinator host:50051 --gpu 0         train on the first GPU; one worker for each
  worker --coordinator host:50051 --threads 8     train with 8 CPU threads

The worker joins, trains what it is given, and exits when the coordinator needs it no longer.
Ctrl-C or SIGTERM hands its task back first; a second signal ends it at once.";

/// Trains and evaluates for a Quartet coordinator.
#[derive(Debug, Parser)]
#[command(name = "worker", version, after_help = EXAMPLES)]
struct Args {
    /// Address of the coordinator.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "QUARTET_COORDINATOR",
        default_value = "127.0.0.1:50051"
    )]
    coordinator: String,
    /// Train on this GPU; without it on the CPU.
    #[arg(long, value_name = "N")]
    gpu: Option<usize>,
    /// What computes: flex is pure Rust, tch is LibTorch, cuda is CubeCL.
    #[arg(long, value_enum, default_value_t = BackendChoice::Auto)]
    backend: BackendChoice,
    /// CPU threads to compute with [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Folder for data sets and for checkpoints on their way [default: $XDG_CACHE_HOME/quartet or ~/.cache/quartet].
    #[arg(long, value_name = "DIR", env = "QUARTET_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// Name of this worker for people [default: the device and the host's name].
    #[arg(long)]
    name: Option<String>,
    /// Exit when no coordinator answers for this long.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    give_up_after: Duration,
    /// Exit when standard input ends: for a parent process that must not leave workers behind.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
    /// Print a completion script for this shell and exit.
    #[arg(long, value_name = "SHELL")]
    completions: Option<clap_complete::Shell>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(shell) = args.completions {
        clap_complete::generate(
            shell,
            &mut Args::command(),
            "worker",
            &mut std::io::stdout(),
        );
        return ExitCode::SUCCESS;
    }
    if let Err(error) = telemetry::init("info") {
        return complain(&error.into(), 2);
    }
    let threads = args.threads.map(usize::from);
    let device = match device::select(args.backend, args.gpu, threads) {
        Ok(device) => device,
        Err(error) => return complain(&error.into(), 2),
    };
    match work(args, device) {
        Ok(Ended::Dismissed(reason)) => {
            tracing::info!(%reason, "dismissed by the coordinator");
            ExitCode::SUCCESS
        }
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Err(error) => complain(&error, 1),
    }
}

fn complain(error: &anyhow::Error, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    ExitCode::from(code)
}

fn work(args: Args, device: TrainingDevice) -> anyhow::Result<Ended> {
    let settings = Settings {
        coordinator: args.coordinator,
        name: args.name.unwrap_or_else(|| default_name(args.gpu)),
        cache_dir: args.cache_dir.map_or_else(default_cache_dir, Ok)?,
        give_up_after: args.give_up_after,
    };
    // The network needs little; the cores are for training.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        if args.exit_with_parent {
            exit_with_parent(shutdown.clone());
        }
        agent::run(settings, device, shutdown).await
    });
    // A step that is still computing must not hold the exit up.
    runtime.shutdown_background();
    ended
}

/// Shuts down as soon as the parent closes its end of our standard input, which it also does by dying.
fn exit_with_parent(shutdown: Shutdown) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        shutdown.trigger();
        std::thread::sleep(ORPHAN_GRACE);
        tracing::warn!("the task could not be handed back in time");
        std::process::exit(1);
    });
}

fn default_name(gpu: Option<usize>) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() {
        "unknown"
    } else {
        host.trim()
    };
    match gpu {
        Some(gpu) => format!("gpu-{gpu}@{host}"),
        None => format!("cpu@{host}"),
    }
}

fn default_cache_dir() -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .ok_or_else(|| {
            anyhow::anyhow!("no home directory is known; name a folder with --cache-dir")
        })?;
    Ok(base.join("quartet"))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
        assert!(BackendChoice::value_variants().len() >= 4);
    }
}
