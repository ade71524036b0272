//! Shows the state of a coordinator's experiment and fleet.

use std::io;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use quartet_ingest::weights::DownloadProgress;
use quartet_shared::clock::Timestamp;
use quartet_shared::ids::Attempt;
use quartet_shared::spec::SpecError;
use quartet_shared::task::Task;
use quartet_shared::telemetry;
use quartet_shared::terminal::{Console, Mode};
use quartet_status::logs::{self, LogChoice};
use quartet_status::options::{Cli, Command};
use quartet_status::queue::{self, SubmitFailure};
use quartet_status::stored::{self, Format, FormatFlags, StoredError};
use quartet_status::{ClientError, StatusError};

/// 128 + SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;

/// Exit status for arguments that cannot be used, keys among them.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(shell) = cli.completions {
        clap_complete::generate(shell, &mut Cli::command(), "status", &mut io::stdout());
        return ExitCode::SUCCESS;
    }
    if let Err(reason) = cli.check() {
        let kind = clap::error::ErrorKind::ArgumentConflict;
        Cli::command().error(kind, reason).exit();
    }
    show(&cli).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "error: {error:#}");
        let usage = matches!(
            error.downcast_ref(),
            Some(StatusError::Client(
                ClientError::Keys(_) | ClientError::NoSuch(_)
            ))
        ) || error.is::<SpecError>();
        let submitted: Option<&SubmitFailure> = error.downcast_ref();
        let usage = usage || submitted.is_some_and(SubmitFailure::is_usage);
        let stored: Option<&StoredError> = error.downcast_ref();
        match usage || stored.is_some_and(StoredError::is_usage) {
            true => ExitCode::from(USAGE),
            false => ExitCode::FAILURE,
        }
    })
}

fn show(cli: &Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    if let Some(shown) = runtime.block_on(show_stored(cli)) {
        return shown.map(|()| ExitCode::SUCCESS);
    }
    match &cli.command {
        Some(Command::Drain { worker, keys, .. }) => {
            let options = keys.within(&cli.options);
            match worker {
                Some(worker) => {
                    runtime.block_on(quartet_status::drain(&options, worker, io::stdout()))?;
                }
                None => runtime.block_on(quartet_status::drain_fleet(&options, io::stdout()))?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Retry { run, keys }) => {
            let options = keys.within(&cli.options);
            runtime.block_on(quartet_status::retry(&options, run, io::stdout()))?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Logs { keys, .. }) => {
            let options = keys.within(&cli.options);
            let choice = log_choice(cli).context("no log is chosen")?;
            let printed = logs::from_coordinator(&options, &choice, io::stdout(), io::stderr());
            return match runtime.block_on(printed) {
                Err(error) if error.is_closed_pipe() => Ok(ExitCode::SUCCESS),
                printed => Ok(printed.map(|()| ExitCode::SUCCESS)?),
            };
        }
        Some(Command::Queue { keys, format }) => {
            let options = keys.within(&cli.options);
            let format = match cli.options.json {
                true => Format::Json,
                false => (*format).into(),
            };
            runtime.block_on(queue::show(&options, format, width(), io::stdout()))?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Submit(args)) => {
            let options = args.keys.within(&cli.options);
            let submission = args.submission(&options)?;
            let console = Console::of_process();
            telemetry::init_on("warn", console.clone())?;
            let mut progress = DownloadProgress::on(console);
            let (out, err) = (io::stdout(), io::stderr());
            let submitted = queue::submit(&options, submission, &mut progress, out, err);
            runtime.block_on(submitted)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Cancel { experiment, keys }) => {
            let options = keys.within(&cli.options);
            runtime.block_on(queue::cancel(&options, experiment, io::stdout()))?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Page { keys }) => {
            let options = keys.within(&cli.options);
            runtime.block_on(quartet_status::page(&options, io::stdout(), io::stderr()))?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    runtime.block_on(async {
        let shown =
            quartet_status::run(&cli.options, Mode::of_stdout(), io::stdout(), io::stderr());
        tokio::select! {
            shown = shown => match shown {
                Err(error) if error.is_closed_pipe() => Ok(ExitCode::SUCCESS),
                shown => Ok(shown?.into()),
            },
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
        }
    })
}

/// Columns that a table may have.
fn width() -> u16 {
    match Mode::of_stdout() {
        // A file or a pipe has room for every column.
        Mode::Lines if std::env::var_os("COLUMNS").is_none() && !io::stdout().is_terminal() => {
            u16::MAX
        }
        mode => mode.size().columns,
    }
}

/// Runs a command that reads a store; `None` if it is another one.
async fn show_stored(cli: &Cli) -> Option<anyhow::Result<()>> {
    let (out, err) = (io::stdout(), io::stderr());
    let width = width();
    // Before the command it says the same.
    let format = |flags: &FormatFlags| match cli.options.json {
        true => Format::Json,
        false => (*flags).into(),
    };
    let shown = match cli.command.as_ref()? {
        Command::List {
            store,
            tags,
            format: flags,
        } => {
            stored::list(
                store,
                tags,
                format(flags),
                width,
                Timestamp::now(),
                out,
                err,
            )
            .await
        }
        Command::Show {
            place,
            format: flags,
        } => stored::show(place, format(flags), width, out, err).await,
        Command::Compare {
            places,
            format: flags,
        } => stored::compare(places, format(flags), width, out, err).await,
        Command::Report {
            place,
            out: file,
            png,
        } => stored::report(place, file, png.as_deref(), out, err).await,
        Command::Logs {
            experiment: Some(place),
            ..
        } => logs::from_store(place, &log_choice(cli)?, out, err).await,
        Command::Logs { .. }
        | Command::Drain { .. }
        | Command::Retry { .. }
        | Command::Queue { .. }
        | Command::Submit(_)
        | Command::Cancel { .. }
        | Command::Page { .. } => return None,
    };
    match shown {
        Err(StoredError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Some(Ok(()))
        }
        shown => Some(shown.map_err(Into::into)),
    }
}

/// Which log the command line means, if it means one.
fn log_choice(cli: &Cli) -> Option<LogChoice> {
    let Some(Command::Logs {
        run,
        attempt,
        follow,
        ..
    }) = &cli.command
    else {
        return None;
    };
    Some(LogChoice {
        task: Task::of_name(run.clone()),
        attempt: attempt.map(Attempt),
        // Before the command it says the same.
        follow: *follow || cli.options.follow,
    })
}
