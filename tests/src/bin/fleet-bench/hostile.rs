//! An honest fleet beside clients that mean no good: what it notices of them.
//!
//! Each kind of client has its turn. Meanwhile an honest worker sends heartbeats that are answered, and the
//! coordinator's memory is watched.

mod attacks;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use quartet_coordinator::listener::raise_open_files;
use quartet_identity::Role;
use quartet_tests::processes::Watch;
use quartet_tests::programs::{command, program, without_keys};
use serde_json::Value;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::experiment::{Experiment, Keys};
use super::scale::{answer, attach, forget_peak_memory, peak_memory, probe};
use attacks::{Attack, Target};

/// Runs, and honest workers that train one each.
const WORKERS: usize = 20;
/// Time between two heartbeats that are answered.
const PROBE_INTERVAL: Duration = Duration::from_millis(20);
/// The coordinator's limits: open files, and KiB of address space.
const LIMITS: &str = "ulimit -n 4096; ulimit -v 2000000; exec \"$@\"";

/// Prints a line for each kind of client.
pub(super) fn run(duration: Duration) -> anyhow::Result<()> {
    raise_open_files();
    let experiment = Experiment::new(WORKERS, 9999, Keys::With)?;
    let mut limited = Command::new("sh");
    limited
        .args(["-c", LIMITS, "sh"])
        .arg(program("coordinator"));
    without_keys(&mut limited);
    let coordinator = experiment.coordinator_by(limited);
    let address = coordinator.address.clone();
    let workers = (0..WORKERS).map(|_| experiment.worker(&address, Duration::from_secs(1), 3200));
    let _workers: Vec<_> = workers.collect::<Result<_, _>>()?;
    let mut status = command("status");
    status.args(["--tls"]).arg(experiment.path("keys"));
    let mut watch = Watch::spawn(status, &address);
    let snapshot = watch.until(|snapshot| is_whole(snapshot).then(|| snapshot.clone()));
    let target = Arc::new(Target::new(&experiment, &address, &snapshot)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    super::say(
        "clients",
        "what becomes of them; heartbeat to answer p50 / p99, memory, leases lost",
    )?;
    for attack in Attack::ALL {
        let turn = turn(&target, attack, duration, coordinator.process.id());
        let Turn {
            done,
            mut latencies,
            memory,
        } = runtime.block_on(turn)?;
        latencies.sort_unstable();
        ensure!(!latencies.is_empty(), "no heartbeat was answered");
        let at = |fraction: f64| {
            let index = (latencies.len() as f64 * fraction) as usize;
            latencies[index.min(latencies.len() - 1)].as_secs_f64() * 1e3
        };
        let lost = watch.until(|snapshot| Some(leases_lost(snapshot)));
        super::say(
            &attack.to_string(),
            &format!(
                "{done}; {:.1} / {:.1} ms, {:.0} MB, {lost}",
                at(0.5),
                at(0.99),
                memory as f64 / 1e6
            ),
        )?;
    }
    Ok(())
}

/// Whether every run is trained.
fn is_whole(snapshot: &Value) -> bool {
    let runs = snapshot["runs"].as_array();
    runs.is_some_and(|runs| {
        let trained = |run: &Value| run["progress"]["phase"] == "training";
        runs.len() == WORKERS && runs.iter().all(trained)
    })
}

/// Attempts after the first ones.
fn leases_lost(snapshot: &Value) -> u64 {
    let runs = snapshot["runs"].as_array().map_or(&[][..], Vec::as_slice);
    let attempts = runs.iter().filter_map(|run| run["attempt"].as_u64());
    attempts.map(|attempt| attempt.saturating_sub(1)).sum()
}

struct Turn {
    done: String,
    latencies: Vec<Duration>,
    /// Most resident memory meanwhile, in bytes.
    memory: u64,
}

async fn turn(
    target: &Arc<Target>,
    attack: Attack,
    duration: Duration,
    process: u32,
) -> anyhow::Result<Turn> {
    forget_peak_memory(process)?;
    // The honest worker was there before.
    let channel = target.connect(Role::Worker).await?;
    let over = Arc::new(AtomicBool::new(false));
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let measuring = {
        let (over, latencies) = (Arc::clone(&over), Arc::clone(&latencies));
        let name = format!("probe-{}", attack as usize);
        tokio::spawn(async move { measure(channel, &name, &over, &latencies).await })
    };
    let done = attack
        .run(Arc::clone(target), Instant::now() + duration)
        .await?;
    over.store(true, Ordering::Relaxed);
    measuring.await??;
    let mut latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Turn {
        done,
        latencies: std::mem::take(&mut latencies),
        memory: peak_memory(process)?,
    })
}

/// Sends heartbeats that are answered until it is over.
async fn measure(
    channel: Channel,
    name: &str,
    over: &AtomicBool,
    latencies: &Mutex<Vec<Duration>>,
) -> anyhow::Result<()> {
    let (outbox, mut inbox) = attach(channel, name).await?;
    let mut ticks = tokio::time::interval(PROBE_INTERVAL);
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let sent = Instant::now();
        outbox.send(probe(name)).await?;
        answer(&mut inbox).await?;
        let mut latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.push(sent.elapsed());
    }
    Ok(())
}

impl Target {
    /// A connection with the keys of a role.
    async fn connect(&self, role: Role) -> anyhow::Result<Channel> {
        let connector = self.keys.connector(&[role], "the bench")?;
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))?;
        Ok(connector.connect(endpoint).await?)
    }
}
