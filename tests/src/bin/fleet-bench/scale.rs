//! Many workers of one coordinator, which do nothing but live: an Attach stream each, and a heartbeat a
//! second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use quartet_identity::Role;
use quartet_proto::channel::Connector;
use quartet_proto::v1::fleet_client::FleetClient;
use quartet_proto::v1::{self, coordinator_message, worker_message};
use quartet_tests::processes::hello;
use tokio::sync::{Barrier, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::experiment::{Experiment, Keys};
use super::{pages, say};

/// Streams on one connection.
const STREAMS: usize = 90;
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Every so many workers, one asks with each heartbeat for an answer.
const PROBES: usize = 10;

pub(super) fn run(
    workers: usize,
    pages: usize,
    duration: Duration,
    keys: Keys,
) -> anyhow::Result<()> {
    let experiment = Experiment::new(1, 1, keys)?;
    let coordinator = experiment.coordinator();
    let process = coordinator.process.id();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let address = coordinator.address.clone();
    let connector = experiment.choice().connector(&[Role::Worker], "a worker")?;
    let (latencies, heartbeats, usage) = runtime.block_on(measure(
        address, connector, workers, pages, duration, process,
    ))?;
    let beside = match pages {
        0 => String::new(),
        pages => format!(", {pages} pages"),
    };
    let at = |fraction: f64| {
        let index = (latencies.len() as f64 * fraction) as usize;
        latencies[index.min(latencies.len() - 1)].as_secs_f64() * 1e3
    };
    say(
        &format!("{workers} workers{beside}: heartbeats a second, CPU, memory{keys}"),
        &format!(
            "{:.0}/s, {:.2} cores, {:.0} MB",
            heartbeats as f64 / duration.as_secs_f64(),
            usage.cpu.as_secs_f64() / duration.as_secs_f64(),
            usage.memory as f64 / 1e6,
        ),
    )?;
    say(
        &format!("{workers} workers{beside}: heartbeat to answer, p50 / p99{keys}"),
        &format!(
            "{:.1} / {:.1} ms ({} answers)",
            at(0.5),
            at(0.99),
            latencies.len()
        ),
    )
}

struct Usage {
    cpu: Duration,
    /// Peak of resident memory in bytes.
    memory: u64,
}

async fn measure(
    address: String,
    connector: Connector,
    workers: usize,
    pages: usize,
    duration: Duration,
    process: u32,
) -> anyhow::Result<(Vec<Duration>, u64, Usage)> {
    let heartbeats = Arc::new(AtomicU64::new(0));
    let ready = Arc::new(Barrier::new(workers + 1));
    let mut tasks = tokio::task::JoinSet::new();
    let mut channel = None;
    for index in 0..workers {
        if index.is_multiple_of(STREAMS) {
            channel = Some(
                connector
                    .connect(Endpoint::from_shared(format!("http://{address}"))?)
                    .await?,
            );
        }
        let channel = channel.clone().context("connected above")?;
        let (ready, heartbeats) = (Arc::clone(&ready), Arc::clone(&heartbeats));
        tasks.spawn(live(channel, index, workers, ready, heartbeats, duration));
    }
    ready.wait().await;
    let mut pages = pages::open(&address, pages).await?;
    let (before, started) = (cpu(process)?, Instant::now());
    ready.wait().await;
    let usage = Usage {
        cpu: (cpu(process)? - before)
            .mul_f64(duration.as_secs_f64() / started.elapsed().as_secs_f64()),
        memory: peak_memory(process)?,
    };
    if let Some(ended) = pages.try_join_next() {
        ended??;
        bail!("a page was closed");
    }
    let mut latencies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done??);
    }
    ensure!(!latencies.is_empty(), "no heartbeat was answered");
    latencies.sort_unstable();
    Ok((latencies, heartbeats.load(Ordering::Relaxed), usage))
}

/// One worker's life. Its heartbeats name a lease that never was, if they are to be answered: by a
/// revocation.
async fn live(
    channel: Channel,
    index: usize,
    workers: usize,
    ready: Arc<Barrier>,
    heartbeats: Arc<AtomicU64>,
    duration: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let id = format!("w{index}");
    let (outbox, mut inbox) = attach(channel, &id).await?;
    ready.wait().await;
    let end = Instant::now() + duration;
    // Spread over the second.
    tokio::time::sleep(HEARTBEAT.mul_f64(index as f64 / workers as f64)).await;
    let mut ticks = tokio::time::interval(HEARTBEAT);
    let mut latencies = Vec::new();
    loop {
        ticks.tick().await;
        if Instant::now() >= end {
            break;
        }
        let asks = index.is_multiple_of(PROBES);
        let message = if asks { probe(&id) } else { heartbeat(None) };
        let sent = Instant::now();
        outbox.send(message).await?;
        heartbeats.fetch_add(1, Ordering::Relaxed);
        if asks {
            answer(&mut inbox).await?;
            latencies.push(sent.elapsed());
        }
    }
    // Nobody leaves while others are measured.
    ready.wait().await;
    Ok(latencies)
}

/// A worker's stream, from the welcome on.
pub(super) type Attached = (
    mpsc::Sender<v1::WorkerMessage>,
    Streaming<v1::CoordinatorMessage>,
);

/// Attaches a worker of this id.
pub(super) async fn attach(channel: Channel, id: &str) -> anyhow::Result<Attached> {
    let (outbox, messages) = mpsc::channel(4);
    outbox.send(hello(id, None)).await?;
    let mut client = FleetClient::new(channel);
    let attached = client.attach(ReceiverStream::new(messages)).await?;
    let mut inbox = attached.into_inner();
    inbox.message().await?.context("a welcome")?;
    Ok((outbox, inbox))
}

/// A heartbeat that is answered, because it names a lease that never was.
pub(super) fn probe(id: &str) -> v1::WorkerMessage {
    let progress = v1::Progress {
        lease: Some(v1::Lease {
            task: Some(v1::Task {
                kind: Some(v1::task::Kind::Run("run0".to_owned())),
            }),
            attempt: 1_000_000,
            worker_id: id.to_owned(),
            experiment_id: "none".to_owned(),
        }),
        phase: v1::Phase::Training.into(),
        epoch: 1,
        epochs: 1,
        ..v1::Progress::default()
    };
    heartbeat(Some(progress))
}

/// Waits for the answer to a heartbeat that names a lease that never was.
pub(super) async fn answer(inbox: &mut Streaming<v1::CoordinatorMessage>) -> anyhow::Result<()> {
    loop {
        let message = inbox.message().await?.context("the stream has ended")?;
        if let Some(coordinator_message::Message::Revocation(_)) = message.message {
            return Ok(());
        }
    }
}

fn heartbeat(progress: Option<v1::Progress>) -> v1::WorkerMessage {
    let heartbeat = worker_message::Message::Heartbeat(v1::Heartbeat {
        progress,
        gpu: None,
    });
    v1::WorkerMessage {
        message: Some(heartbeat),
    }
}

/// CPU time that a process has used.
fn cpu(process: u32) -> anyhow::Result<Duration> {
    /// Linux counts in hundredths of a second.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may contain spaces.
    let (_, rest) = stat.rsplit_once(')').context("a process's state")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u32 = fields[11].parse::<u32>()? + fields[12].parse::<u32>()?;
    Ok(TICK * ticks)
}

/// Has the peak be that from now on.
pub(super) fn forget_peak_memory(process: u32) -> anyhow::Result<()> {
    Ok(std::fs::write(format!("/proc/{process}/clear_refs"), "5")?)
}

pub(super) fn peak_memory(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.context("VmHWM")?.trim().trim_end_matches(" kB");
    Ok(kilobytes.trim().parse::<u64>()? * 1024)
}
