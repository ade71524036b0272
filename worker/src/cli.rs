//! The `worker` program: its arguments, and what it does when it does not train for a coordinator.

mod args;
mod embed;
mod export;
mod predict;
mod serve;
mod several;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use quartet_shared::dataset::Channels;
use quartet_shared::label::one_line;
use quartet_shared::picture::Picture;
use quartet_shared::telemetry;

use crate::device::{self, TrainingDevice};
use crate::threads;

pub use args::Args;
use args::{Command, DeviceArgs};

/// Exit status for arguments and input that cannot be used.
const USAGE: u8 = 2;

/// Runs the program.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    if let Some(shell) = args.serve.completions {
        args::print_completions(shell);
        return ExitCode::SUCCESS;
    }
    // A worker tells what it does; the others print what they are asked for.
    let filter = if args.command.is_some() {
        "warn"
    } else {
        "info"
    };
    let log = match telemetry::init_tapped(filter) {
        Ok(log) => log,
        Err(error) => return fail(&error.into(), USAGE),
    };
    let done = match args.command {
        None => return serve::run(args.serve, &args.device, log),
        Some(Command::Embed(args)) => embed::run(&args),
        Some(Command::Predict(args)) => predict::run(&args),
        Some(Command::Export(args)) => export::run(&args),
        Some(Command::Gpus) => {
            print(&gpus());
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, USAGE),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    ExitCode::from(code)
}

fn select(args: &DeviceArgs) -> anyhow::Result<TrainingDevice> {
    let (gpu, n) = (args.single_gpu()?, args.threads.map(usize::from));
    threads::set(args.backend, gpu, n)?;
    Ok(device::select(args.backend, gpu, n)?)
}

/// A line for each GPU.
fn gpus() -> String {
    let gpus = device::gpus();
    gpus.iter()
        .map(|(gpu, backend)| format!("{gpu}  {backend}\n"))
        .collect()
}

/// The images of files.
fn pictures(paths: &[PathBuf], channels: Channels) -> anyhow::Result<Vec<Picture>> {
    let pictures = paths.iter().map(|path| picture(path, channels));
    pictures.collect()
}

fn picture(path: &Path, channels: Channels) -> anyhow::Result<Picture> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", shown(path)))?;
    Picture::decode(&bytes, channels).with_context(|| shown(path))
}

/// A path for people, without the control characters that a file's name may have.
fn shown(path: &Path) -> String {
    one_line(&path.display().to_string()).into_owned()
}

/// Text on standard output. Nobody may be reading any more, which is no error of ours.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
