//! The `coordinator` program: from its arguments to its exit status.

mod args;
mod closing;
mod keys;

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use quartet_identity::folder::DEFAULT_DAYS;
use quartet_identity::server::ServerKeys;
use quartet_identity::session::Sessions;
use quartet_identity::{KeyError, KeyFolder, Role, client};
use quartet_proto::channel::Connector;
use quartet_shared::label;
use quartet_shared::shutdown::Shutdown;
use quartet_shared::spec::{self, SpecError};
use quartet_shared::telemetry;
use quartet_shared::terminal::Console;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::experiment::{self, Experiment, Mismatch, OtherLeader, Request};
use crate::listener;
use crate::local::{DEFAULT_WORKERS, LocalFleet, LocalFleetConfig};
use crate::server::{Coordinator, ExperimentEnd, Policy, Snapshots, Timing};
use quartet_ingest::data::DataError;
use quartet_ingest::weights::{DownloadProgress, WeightsError};
use quartet_status::live::Screen;
use quartet_store::layout::Layout;
use quartet_store::{Store, StoreError};

pub use args::Args;
use args::Command;

/// Least time between two updates of the screen.
const SCREEN_INTERVAL: Duration = Duration::from_millis(250);
/// Longest time between two updates, beyond the least.
const TICK: Duration = Duration::from_millis(750);

/// How long a change may take to be whole.
const SETTLED: Duration = Duration::from_millis(100);

/// Exit status for arguments and input that cannot be used.
const USAGE: u8 = 2;

/// Exit status after a signal.
const INTERRUPTED: u8 = 130;

/// The address is not to be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address}; is another coordinator running? --listen takes another address"
)]
struct CannotListen {
    address: SocketAddr,
    source: io::Error,
}

/// Everybody could call.
#[derive(Debug, thiserror::Error)]
#[error(
    "without keys, whoever reaches {0} could read the data and command the fleet: make some with \
     `coordinator keys`, or say --insecure where only friends reach it"
)]
struct Unprotected(SocketAddr);

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
            let done = runtime.block_on(coordinate(args, request, timing, &console));
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

async fn coordinate(
    args: Args,
    mut request: Request,
    timing: Timing,
    console: &Console,
) -> anyhow::Result<ExitCode> {
    // Someone who closed stdout does not stop the training.
    let say = |line: &str| drop(console.say(line));
    let shutdown = Shutdown::on_signals()?;
    let keys = keys_to_use(&args, console)?;
    let policy = match (&keys, args.listen.ip().is_loopback()) {
        (Some(_), _) => Policy::Keys,
        (None, true) => Policy::Local,
        (None, false) if args.keys.insecure => Policy::Insecure,
        (None, false) => return Err(Unprotected(args.listen).into()),
    };
    let server_keys = keys.as_ref().map(ServerKeys::read).transpose()?;
    let sessions = keys.as_ref().map(Sessions::of).transpose()?;
    if let Some(keys) = &keys {
        request.connector = client::connector(keys, Role::Coordinator)?;
        request.plain_connector = Some(Connector::tcp());
    }
    let bound = TcpListener::bind(args.listen).await;
    let listener = bound.map_err(|source| CannotListen {
        address: args.listen,
        source,
    })?;
    let address = listener.local_addr()?;
    if policy == Policy::Insecure {
        tracing::warn!(%address, "insecure: whoever reaches this address may do everything");
    }
    let store = Store::open(&args.store)?;
    tokio::select! {
        checked = store.check() => checked?,
        () = shutdown.triggered() => return Ok(ExitCode::from(INTERRUPTED)),
    }
    let finished = tokio::select! {
        finished = experiment::finished(&store, &request) => finished?,
        () = shutdown.triggered() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    if let Some(report) = finished {
        let layout = Layout::new(request.spec.name.clone());
        say(&format!(
            "experiment {} has finished already; --name begins another",
            request.spec.name
        ));
        closing::say_result(console, &store, &layout, &report).await;
        return Ok(ExitCode::SUCCESS);
    }
    let fleet = match args.local {
        true => {
            let keys = keys.as_ref().map(|keys| keys.path().to_owned());
            // The GPUs' driver may take a while.
            tokio::select! {
                fleet = LocalFleetConfig::new(args.workers, args.cpu, address, keys) => Some(fleet?),
                () = shutdown.triggered() => return Ok(ExitCode::from(INTERRUPTED)),
            }
        }
        false => None,
    };
    request.address = match address.ip().is_unspecified() {
        true => format!("{}:{}", quartet_shared::host::name(), address.port()),
        false => address.to_string(),
    };
    let reached_at = request.address.clone();
    let mut progress = DownloadProgress::on(console.clone());
    let opened = tokio::select! {
        opened = Experiment::open(store.clone(), request, &mut progress) => Some(opened?),
        () = shutdown.triggered() => None,
    };
    drop(progress);
    let Some(experiment) = opened else {
        say("stopped before the training; start it again to go on, with downloads where they were");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let folder = store.display_key(&experiment.layout.prefix());
    let layout = experiment.layout.clone();
    let runs = match experiment.spec.experiment.runs.len() {
        1 => "1 run".to_owned(),
        runs => format!("{runs} runs"),
    };
    let new = if experiment.created.is_some() {
        "new "
    } else {
        ""
    };
    say(&format!(
        "{new}experiment {} · {runs} · listening on {address} · results in {folder}",
        experiment.spec.experiment.name,
    ));
    if let Some(created) = &experiment.created {
        say(&format!("data: {}", created.data));
        for weights in &created.weights {
            say(&format!("weights: {weights}"));
        }
    }
    if let Some(revised) = &experiment.spec.revised {
        for change in &revised.changes {
            let change = label::one_line(change);
            say(&format!("revision {}: {change}", revised.revision));
        }
    }
    let workers = match &fleet {
        Some(fleet) => fleet.workers,
        None => args.workers.unwrap_or(DEFAULT_WORKERS),
    };
    let coordinator = Coordinator::new(experiment, workers, timing, policy, sessions).await?;
    let mut local = match &fleet {
        Some(fleet) => Some(LocalFleet::start(fleet, console, &coordinator.exits())?),
        None => {
            let port = address.port();
            let from = match (address.ip().is_loopback(), &keys) {
                (true, Some(_)) => {
                    let folder = args.keys.folder.as_ref();
                    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
                    let tls = folder
                        .map_or_else(String::new, |folder| format!(" --tls {}", folder.display()));
                    format!(
                        "{tls} (on this machine; for others start this with --listen 0.0.0.0:{port})"
                    )
                }
                (true, None) if args.keys.insecure => " --insecure".to_owned(),
                (true, None) => format!(
                    " (on this machine; for others make keys with `coordinator keys`, and start this with \
                     --listen 0.0.0.0:{port})"
                ),
                (false, Some(_)) => {
                    " (for another machine's keys: `coordinator keys add NAME --role worker`)"
                        .to_owned()
                }
                (false, None) => " --insecure".to_owned(),
            };
            say(&format!(
                "join workers with: worker --coordinator {reached_at}{from}"
            ));
            None
        }
    };
    let (stop, stopped) = watch::channel(false);
    let screen = tokio::spawn(show(coordinator.snapshots(), stopped, console.clone()));
    let incoming = listener::incoming(listener, server_keys);
    let mut snapshots = coordinator.snapshots();
    let ended = tokio::select! {
        // It counts the workers before they hear of it.
        biased;
        never = say_when_stopping(&shutdown, &mut snapshots, console) => match never {},
        ended = coordinator.serve(incoming, shutdown.clone()) => ended,
        reason = all_gone(&mut local) => Err(reason.context("no local worker is left")),
    };
    if let Some(local) = local {
        local.stop().await;
    }
    stop.send_replace(true);
    screen.await.context("the display panicked")?;
    let status = match ended? {
        ExperimentEnd::Finished(report) => {
            closing::say_result(console, &store, &layout, &report).await;
            ExitCode::SUCCESS
        }
        ExperimentEnd::Failed { reasons, report } => {
            if let Some(report) = report {
                closing::say_result(console, &store, &layout, &report).await;
            }
            for reason in &reasons {
                console.remark(&format!("failed: {}", label::one_line(reason)));
            }
            say("started again with the same --store and --name, it tries again what failed");
            ExitCode::FAILURE
        }
        ExperimentEnd::Interrupted => {
            say("stopped; start it again with the same --store and --name to go on");
            ExitCode::from(INTERRUPTED)
        }
    };
    if let Some(staying) = closing::staying(snapshots.staying()) {
        say(&staying);
    }
    Ok(status)
}

/// The keys that this coordinator uses; a local fleet gets some made.
fn keys_to_use(args: &Args, console: &Console) -> Result<Option<KeyFolder>, KeyError> {
    let found = args.keys.folder()?;
    if let Some(keys) = &found {
        keys.first(&[Role::Coordinator], "a coordinator")?;
        if args.local {
            keys.first(&[Role::Worker], "the local workers")?;
        }
    }
    if found.is_some() || !args.local || args.keys.insecure {
        return Ok(found);
    }
    let made = KeyFolder::of_user().and_then(|folder| {
        folder.create(DEFAULT_DAYS)?;
        Ok(folder)
    });
    match made {
        Ok(folder) => {
            let _ = console.say(&format!("new keys in {}", folder.path().display()));
            Ok(Some(folder))
        }
        Err(error) => {
            tracing::warn!(%error, "without keys, all users of this machine can command this fleet");
            Ok(None)
        }
    }
}

/// Resolves with the reason when the local workers are gone because each crashed again and again.
async fn all_gone(local: &mut Option<LocalFleet>) -> anyhow::Error {
    match local {
        Some(local) => local.all_gone().await,
        None => std::future::pending().await,
    }
}

/// Says what happens once a signal has come; never resolves.
async fn say_when_stopping(
    shutdown: &Shutdown,
    snapshots: &mut Snapshots,
    console: &Console,
) -> Infallible {
    shutdown.triggered().await;
    let _ = console.say(&closing::stopping(&snapshots.now()));
    std::future::pending().await
}

/// Shows the experiment as it goes: redrawn on a terminal, else a line for each change.
async fn show(mut snapshots: Snapshots, mut stop: watch::Receiver<bool>, console: Console) {
    let mut screen = Screen::new(console.clone());
    // An error means that nobody reads our output; the training goes on.
    while screen.show(&snapshots.now()).is_ok() && !*stop.borrow() {
        let next = async {
            tokio::time::sleep(SCREEN_INTERVAL).await;
            // Times move on although nothing changes.
            let changed = tokio::time::timeout(TICK, snapshots.changed()).await;
            // One thing leads to the next: a worker's connection ends, and then its parent sees why.
            if changed.is_ok() {
                tokio::time::sleep(SETTLED).await;
            }
        };
        tokio::select! {
            () = next => {}
            // The last state is shown, too.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
    console.keep();
}
