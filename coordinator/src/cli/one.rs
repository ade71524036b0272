//! A coordinator of one experiment.

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use quartet_ingest::weights::DownloadProgress;
use quartet_shared::label;
use quartet_shared::shutdown::Shutdown;
use quartet_shared::terminal::Console;
use quartet_status::live::Screen;
use quartet_store::layout::Layout;
use tokio::sync::watch;

use super::ground::Ground;
use super::{Args, INTERRUPTED, all_gone, closing};
use crate::experiment::{self, Experiment, Request};
use crate::listener;
use crate::local::DEFAULT_WORKERS;
use crate::server::{Coordinator, ExperimentEnd, Snapshots, Timing};

/// Least time between two updates of the screen.
const SCREEN_INTERVAL: Duration = Duration::from_millis(250);
/// Longest time between two updates, beyond the least.
const TICK: Duration = Duration::from_millis(750);

/// How long a change may take to be whole.
const SETTLED: Duration = Duration::from_millis(100);

/// Trains an experiment to its end.
///
/// # Errors
/// What was asked for cannot be used, or the coordinator cannot go on.
pub(super) async fn coordinate(
    args: Args,
    mut request: Request,
    timing: Timing,
    console: &Console,
) -> anyhow::Result<ExitCode> {
    // Someone who closed stdout does not stop the training.
    let say = |line: &str| drop(console.say(line));
    let Some(mut ground) = Ground::prepare(&args, console).await? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let (store, shutdown) = (ground.store.clone(), ground.shutdown.clone());
    request.address.clone_from(&ground.contact.address);
    request.connector = ground.contact.connector.clone();
    request.plain_connector = ground.contact.plain_connector.clone();
    let address = ground.address;
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
    let Some(fleet) = ground.local_fleet(&args).await? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
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
    let coordinator = Coordinator::new(
        experiment,
        workers,
        timing,
        ground.policy,
        ground.sessions.take(),
    )
    .await?;
    let exits = coordinator.exits();
    let mut local = ground.start_workers(&args, fleet.as_ref(), &exits, console)?;
    let (stop, stopped) = watch::channel(false);
    let screen = tokio::spawn(show(coordinator.snapshots(), stopped, console.clone()));
    let incoming = listener::incoming(ground.listener, ground.server_keys);
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

/// Says what happens once a signal has come; never resolves.
async fn say_when_stopping(
    shutdown: &Shutdown,
    snapshots: &mut Snapshots,
    console: &Console,
) -> Infallible {
    shutdown.triggered().await;
    let now = snapshots.now();
    let _ = console.say(&closing::stopping(
        now.workers_present(),
        now.workers_staying(),
    ));
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
