//! A coordinator of a queue.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use quartet_shared::label;
use quartet_shared::shutdown::Shutdown;
use quartet_shared::terminal::Console;
use quartet_store::Store;
use quartet_store::layout::Layout;
use tokio::sync::mpsc;

use super::ground::Ground;
use super::{Args, INTERRUPTED, all_gone, closing};
use crate::listener;
use crate::local::DEFAULT_WORKERS;
use crate::queue::{How, Queue};
use crate::server::{News, QueueRunner, Timing};

/// How long the last news may take to be told.
const LAST_NEWS: Duration = Duration::from_secs(1);

/// Trains the experiments of a queue until a signal comes.
///
/// # Errors
/// The queue cannot be ruled, or the coordinator cannot go on.
pub(super) async fn serve(
    args: Args,
    timing: Timing,
    console: &Console,
) -> anyhow::Result<ExitCode> {
    let say = |line: &str| drop(console.say(line));
    let Some(mut ground) = Ground::prepare(&args, console).await? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let Some(fleet) = ground.local_fleet(&args).await? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let (store, shutdown) = (ground.store.clone(), ground.shutdown.clone());
    let contact = ground.contact.clone();
    let connectors = contact.connectors();
    let queue = tokio::select! {
        queue = Queue::open(store.clone(), &contact.address, &connectors) => queue?,
        () = shutdown.triggered() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let waiting = match queue.waiting().len() {
        0 => "nothing waits; `status submit` adds an experiment".to_owned(),
        1 => "1 experiment waits".to_owned(),
        waiting => format!("{waiting} experiments wait"),
    };
    say(&format!(
        "queue of {} · listening on {} · {waiting}",
        store.location(),
        ground.address
    ));
    let workers = match &fleet {
        Some(fleet) => fleet.workers,
        None => args.workers.unwrap_or(DEFAULT_WORKERS),
    };
    let sessions = ground.sessions.take();
    let (runner, news) = QueueRunner::new(queue, contact, workers, timing, ground.policy, sessions);
    let mut local = ground.start_workers(&args, fleet.as_ref(), &runner.exits(), console)?;
    let told = tokio::spawn(tell(news, store, console.clone()));
    let exits = Arc::clone(&runner);
    let incoming = listener::incoming(ground.listener, ground.server_keys);
    let ended = tokio::select! {
        // It counts the workers before they hear of it.
        biased;
        never = say_when_stopping(&shutdown, &exits, local.is_some(), console) => match never {},
        ended = runner.serve(incoming, shutdown.clone()) => ended,
        reason = all_gone(&mut local) => Err(reason.context("no local worker is left")),
    };
    let staying = exits.staying();
    let has_local = local.is_some();
    if let Some(local) = local {
        local.stop().await;
    }
    drop(exits);
    // The last news are told, too. A connection that does not end may keep them open.
    let _ = tokio::time::timeout(LAST_NEWS, told).await;
    ended?;
    say("stopped; start it again with the same --store to go on with the queue");
    if let Some(staying) = closing::staying(staying).filter(|_| !has_local) {
        say(&staying);
    }
    Ok(ExitCode::from(INTERRUPTED))
}

/// Says what happens once a signal has come; never resolves.
async fn say_when_stopping(
    shutdown: &Shutdown,
    runner: &QueueRunner,
    has_local: bool,
    console: &Console,
) -> Infallible {
    shutdown.triggered().await;
    // Those that this process has started end with it.
    let staying = if has_local { 0 } else { runner.staying() };
    let present = runner.present();
    let _ = console.say(&closing::stopping(present, staying));
    std::future::pending().await
}

/// Tells what happens to the queue, a line each, and how experiments end.
async fn tell(mut news: mpsc::UnboundedReceiver<News>, store: Store, console: Console) {
    // Someone who closed stdout does not stop the training.
    let say = |line: &str| drop(console.say(line));
    while let Some(news) = news.recv().await {
        match news {
            News::Submitted { experiment, before } => {
                let place = match before {
                    0 => String::new(),
                    before => format!(", after {before}"),
                };
                say(&format!("{experiment} is in the queue{place}"));
            }
            News::Began { experiment, runs } => {
                let runs = match runs {
                    1 => "1 run".to_owned(),
                    runs => format!("{runs} runs"),
                };
                let folder = store.display_key(&Layout::new(experiment.clone()).prefix());
                say(&format!(
                    "{experiment} begins · {runs} · results in {folder}"
                ));
            }
            News::Ended {
                experiment,
                how,
                reason,
                report,
            } => {
                // Of what was cancelled it says by whom.
                let (how, before) = match how {
                    How::Finished => ("has finished", ": "),
                    How::Failed => ("has failed", ": "),
                    How::Cancelled => ("is cancelled", " "),
                };
                let reason = match &reason[..] {
                    "" => String::new(),
                    reason => format!("{before}{}", label::one_line(reason)),
                };
                say(&format!("{experiment} {how}{reason}"));
                if let Some(report) = report {
                    let layout = Layout::new(experiment);
                    closing::say_result(&console, &store, &layout, &report).await;
                }
            }
        }
    }
}
