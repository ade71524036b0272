//! What people watch: the state of the experiment and of the fleet, and the `status` program that shows it.
//!
//! - [`snapshot`]: the state as plain data, and its conversions from and to the protocol
//! - [`render`]: a snapshot as tables, or as lines about what changed; pure functions
//! - [`json`]: a snapshot as JSON
//! - [`live`]: a screen that is drawn anew, or a log that grows; the coordinator shows progress with it too
//! - [`logs`]: what workers have logged of their attempts
//! - [`options`]: the command line
//! - [`queue`]: the queue of a coordinator, and what is submitted to it
//! - [`stored`]: experiments as their store has them, without a coordinator
//! - `client`, `follow`: the connection, and how `--follow` outlives it

mod client;
mod follow;
pub mod json;
pub mod live;
pub mod logs;
pub mod options;
pub mod queue;
pub mod render;
pub mod snapshot;
pub mod stored;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::process::ExitCode;

use client::Client;
use live::Screen;
use options::Options;
use quartet_shared::ids::RunName;
use quartet_shared::label::one_line;
use quartet_shared::task::Task;
use quartet_shared::terminal::{Console, Mode};
use snapshot::{ExperimentState, Snapshot};

pub use client::ClientError;
pub use follow::FollowError;

/// Why the status cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The coordinator cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It was out of reach for too long.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl StatusError {
    /// Whether the reader of the output has gone, as in `status --follow | head`: nothing to complain about.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A snapshot was shown, or the experiment was followed until it finished.
    Done,
    /// The experiment was followed until it failed.
    Failed,
}

impl From<Shown> for ExitCode {
    fn from(shown: Shown) -> Self {
        match shown {
            Shown::Done => Self::SUCCESS,
            Shown::Failed => Self::FAILURE,
        }
    }
}

/// Shows the coordinator's state on `out`, once or until the experiment has ended. Remarks about the
/// connection go to `err`.
pub async fn run(
    options: &Options,
    mode: Mode,
    out: impl Write + Send + 'static,
    err: impl Write + Send + 'static,
) -> Result<Shown, StatusError> {
    let console = Console::new(mode, out, err);
    if options.follow {
        let mut view = match options.json {
            true => View::Json(console.clone()),
            false => View::Screen(Box::new(Screen::new(console.clone()))),
        };
        return follow::follow(options, &mut view, &console).await;
    }
    let snapshot = Client::connect(options).await?.snapshot().await?;
    let text = match options.json {
        true => json::pretty(&snapshot),
        false => render::table(&snapshot, mode.size().columns),
    };
    console.print(text.trim_end_matches('\n'))?;
    Ok(Shown::Done)
}

/// Has a worker commit its state, hand its run back, and exit.
pub async fn drain(
    options: &Options,
    worker: &str,
    mut out: impl Write,
) -> Result<(), StatusError> {
    let id = Client::connect(options).await?.drain(worker).await?;
    let id = one_line(&id);
    writeln!(out, "worker {worker} ({id}) hands its task back and leaves")?;
    Ok(())
}

/// Gives a run that has failed for good another budget.
///
/// # Errors
/// The coordinator cannot be asked, has no such run, or the run has not failed; or the output cannot be
/// written.
pub async fn retry(
    options: &Options,
    run: &RunName,
    mut out: impl Write,
) -> Result<(), StatusError> {
    let task = Task::of_name(run.clone());
    Client::connect(options).await?.retry(&task).await?;
    writeln!(out, "{task} is tried again")?;
    Ok(())
}

/// Has all workers commit their states, hand their runs back, and exit.
///
/// # Errors
/// The coordinator cannot be asked, or the output cannot be written.
pub async fn drain_fleet(options: &Options, mut out: impl Write) -> Result<(), StatusError> {
    match Client::connect(options).await?.drain_fleet().await? {
        0 => writeln!(out, "no worker is connected")?,
        1 => writeln!(out, "1 worker hands its task back and leaves")?,
        workers => writeln!(out, "{workers} workers hand their tasks back and leave")?,
    }
    Ok(())
}

/// Prints a link to the coordinator's page. What a browser will make of it goes to `err`.
///
/// # Errors
/// The coordinator cannot be asked, or the output cannot be written.
pub async fn page(
    options: &Options,
    mut out: impl Write,
    mut err: impl Write,
) -> Result<(), StatusError> {
    let (address, token) = Client::connect(options).await?.create_page_link().await?;
    match &token[..] {
        "" => writeln!(out, "http://{address}/")?,
        token => {
            writeln!(out, "https://{address}/?token={token}")?;
            // A closed stderr is no reason to fail.
            let _ = writeln!(
                err,
                "good once, for 5 minutes. The browser does not know the fleet's certificate and asks \
                 whether to go on."
            );
        }
    }
    Ok(())
}

/// Where snapshots go.
enum View {
    Screen(Box<Screen>),
    Json(Console),
}

impl View {
    fn show(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        match self {
            Self::Screen(screen) => screen.show(snapshot),
            Self::Json(console) => console.print(&json::line(snapshot)),
        }
    }

    /// Shows that time passes, where that is shown.
    fn draw(&self, snapshot: &Snapshot, remark: Option<&str>) {
        if let Self::Screen(screen) = self {
            screen.draw(snapshot, remark);
        }
    }
}

fn ended(state: ExperimentState) -> Option<Shown> {
    state.has_ended().then_some(match state {
        ExperimentState::Failed => Shown::Failed,
        _ => Shown::Done,
    })
}
