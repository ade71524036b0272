//! The `coordinator` program: from its arguments to its exit status.
//!
//! - `args`: the command line; `keys`: the command that makes keys
//! - `ground`: what a coordinator of any kind needs first
//! - `one`: a coordinator of one experiment; `serve`: of a queue; `closing`: what either says in the end

mod args;
mod closing;
mod ground;
mod keys;
mod one;
mod serve;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use quartet_identity::KeyError;
use quartet_ingest::data::DataError;
use quartet_ingest::weights::WeightsError;
use quartet_shared::spec::{self, SpecError};
use quartet_shared::telemetry;
use quartet_shared::terminal::Console;
use quartet_store::StoreError;

use crate::experiment::Mismatch;
use crate::leadership::OtherLeader;
use crate::local::LocalFleet;
use ground::{CannotListen, Unprotected};

pub use args::Args;
use args::Command;

/// Exit status for arguments and input that cannot be used.
const USAGE: u8 = 2;

/// Exit status after a signal.
const INTERRUPTED: u8 = 130;

/// Runs the program.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    if let Some(shell) = args.completions {
        args::print_completions(shell);
        return ExitCode::SUCCESS;
    }
    if let Some(Command::Keys(keys)) = &args.command {
        return match keys::run(keys) {
            Ok(text) => {
                let _ = io::stdout().write_all(text.as_bytes());
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error.into(), USAGE),
        };
    }
    // The screen shows what goes on; the log is for what goes wrong.
    let console = Console::of_process();
    if let Err(error) = telemetry::init_on("warn", console.clone()) {
        return fail(&error.into(), USAGE);
    }
    let (request, timing) = match args.request().and_then(|r| Ok((r, args.timing.timing()?))) {
        Ok(given) => given,
        Err(error) => return fail(&error, USAGE),
    };
    if args.print_experiment {
        let spec = match request.new_spec() {
            Ok(spec) => spec,
            Err(error) => return fail(&error.into(), USAGE),
        };
        return match io::stdout().write_all(spec::to_toml(&spec).as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.into(), 1),
        };
    }
    // Few threads: the coordinator waits more than it computes, and shares the machine with workers.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(async {
                match args.serve {
                    true => serve::serve(args, timing, &console).await,
                    false => one::coordinate(args, request, timing, &console).await,
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
            done
        }
        Err(error) => Err(error.into()),
    };
    // What is drawn stays above the error.
    console.keep();
    match done {
        Ok(code) => code,
        Err(error) => fail(&error, if is_usage(&error) { USAGE } else { 1 }),
    }
}

/// Whether other arguments, other data or other weights would help.
fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<DataError>()
        || error.is::<WeightsError>()
        || error.is::<Mismatch>()
        || error.is::<SpecError>()
        || error.is::<OtherLeader>()
        || error.is::<CannotListen>()
        || error.is::<Unprotected>()
        || error.is::<KeyError>()
        || matches!(error.downcast_ref(), Some(StoreError::Location { .. }))
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {error:#}");
    ExitCode::from(code)
}

/// Resolves with the reason when the local workers are gone because each crashed again and again.
async fn all_gone(local: &mut Option<LocalFleet>) -> anyhow::Error {
    match local {
        Some(local) => local.all_gone().await,
        None => std::future::pending().await,
    }
}
