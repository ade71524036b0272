//! The programs of a simulated fleet. Each is started again when it ends otherwise than well, as a
//! supervisor would do.
//!
//! - `queue`: coordinators of a queue, and who submits experiments to it

mod queue;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::BoxStream;
use hyper_util::rt::TokioIo;
use quartet_agent::Settings;
use quartet_coordinator::experiment::{Experiment, Request};
use quartet_coordinator::server::{Coordinator, ExperimentEnd, Policy, Timing};
use quartet_ingest::data::{Source, SyntheticSpec};
use quartet_ingest::weights::DownloadProgress;
use quartet_proto::channel::Connector;
use quartet_shared::address::Address;
use quartet_shared::chunks::CHUNK_SIZE;
use quartet_shared::secret::Secret;
use quartet_shared::shutdown::Shutdown;
use quartet_shared::terminal::Mode;
use tempfile::TempDir;
use tonic::transport::server::Connected;
use tonic::transport::{Endpoint, Uri};
use tower::service_fn;
use turmoil::Sim;
use turmoil::net::{TcpListener, TcpStream};

use super::dice::Dice;
use super::executor::HashingExecutor;
use super::simulated::{Ending, Simulated};
use super::stage::TICK;

/// Hosts of coordinators, of which one leads at a time.
pub(super) const COORDINATORS: [&str; 2] = ["a", "b"];
/// Hosts of workers: one more than there are runs.
pub(super) const WORKERS: [&str; 3] = ["w0", "w1", "w2"];
const PORT: u16 = 9000;
/// Bytes of a run's weights: a few messages, the last of which is not full.
pub(super) const WEIGHTS: usize = 3 * CHUNK_SIZE + 32;
/// How long a supervisor waits before it starts a program again.
const RESTART: Duration = Duration::from_secs(1);

/// Which coordinators there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cast {
    /// One.
    Single,
    /// Two for the same experiment.
    Spare,
    /// One, which takes turns at two experiments of the same names.
    Stranger,
    /// Two for the same experiment, which is changed twice.
    Growing,
    /// Two for the same queue.
    Queue,
    /// Two for the same experiment, of which a run fails for good.
    Broken,
}

/// What all hosts of a simulation share.
#[derive(Clone)]
pub(super) struct World {
    pub(super) experiments: Vec<Simulated>,
    cast: Cast,
    step: Duration,
    dice: Arc<Dice>,
    folder: Arc<TempDir>,
    started: Arc<AtomicU64>,
    coordinator_starts: Arc<[AtomicUsize; COORDINATORS.len()]>,
    pauses: Arc<Mutex<BTreeMap<&'static str, Duration>>>,
    paused: Arc<AtomicU64>,
}

impl World {
    pub(super) fn new(dice: &Arc<Dice>, cast: Cast) -> Self {
        let experiments = match cast {
            Cast::Single | Cast::Spare | Cast::Growing | Cast::Broken => 1,
            Cast::Stranger => 2,
            Cast::Queue => 3,
        };
        let simulated = |_| match cast {
            Cast::Growing => Simulated::growing(dice),
            Cast::Broken => Simulated::broken(dice),
            _ => Simulated::new(dice),
        };
        let mut all: Vec<_> = (0..experiments).map(simulated).collect();
        if cast == Cast::Queue {
            let (first, others) = all.split_at_mut(1);
            for (other, name) in others.iter_mut().zip(["second", "third"]) {
                *other = first[0].beside(dice, name);
            }
        }
        Self {
            experiments: all,
            cast,
            step: Duration::from_millis(dice.within(50..600)),
            dice: Arc::clone(dice),
            folder: Arc::new(tempfile::tempdir().expect("there is room for temporary files")),
            started: Arc::default(),
            coordinator_starts: Arc::default(),
            pauses: Arc::default(),
            paused: Arc::default(),
        }
    }

    /// The hosts that have a coordinator.
    fn coordinators(&self) -> &'static [&'static str] {
        match self.cast {
            Cast::Single | Cast::Stranger => &COORDINATORS[..1],
            _ => &COORDINATORS,
        }
    }

    /// Whether all experiments have ended.
    pub(super) fn has_ended(&self) -> bool {
        self.experiments
            .iter()
            .all(|experiment| experiment.ending().is_some())
    }

    /// Pauses so far.
    pub(super) fn paused(&self) -> u64 {
        self.paused.load(Ordering::Relaxed)
    }

    /// Has a coordinator's host not run for so long: its clock goes on, its programs do not.
    pub(super) fn pause(&self, host: &'static str, pause: Duration) {
        lock(&self.pauses).insert(host, pause);
    }

    async fn take_pauses(&self, host: &str) -> Infallible {
        loop {
            tokio::time::sleep(TICK).await;
            let pause = lock(&self.pauses).remove(host);
            if let Some(pause) = pause {
                tokio::time::advance(pause).await;
                self.paused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Puts all programs on their hosts.
    pub(super) fn start(&self, sim: &mut Sim<'_>) {
        for (index, host) in self.coordinators().iter().enumerate() {
            let world = self.clone();
            sim.host(*host, move || {
                let world = world.clone();
                async move {
                    let coordinators = async {
                        match world.cast {
                            Cast::Queue => queue::supervise(&world, host).await,
                            _ => world.supervise_coordinator(index, host).await,
                        }
                    };
                    tokio::select! {
                        () = coordinators => Ok(()),
                        never = world.take_pauses(host) => match never {},
                    }
                }
            });
        }
        if self.cast == Cast::Queue {
            let world = self.clone();
            sim.host(queue::SUBMITTER, move || {
                let world = world.clone();
                async move {
                    queue::submit(&world).await;
                    Ok(())
                }
            });
        }
        for host in WORKERS {
            let world = self.clone();
            sim.host(host, move || {
                let world = world.clone();
                async move {
                    world.supervise_worker(host).await;
                    Ok(())
                }
            });
        }
    }

    /// Has a coordinator on this host until all experiments have ended: each time that one is started, of
    /// the next experiment.
    async fn supervise_coordinator(&self, index: usize, host: &str) {
        loop {
            let start = self.coordinator_starts[index].fetch_add(1, Ordering::Relaxed);
            let mut open = self.experiments.clone();
            open.rotate_left((index + start) % self.experiments.len());
            open.retain(|experiment| experiment.ending().is_none());
            let Some(experiment) = open.first() else {
                return;
            };
            // Someone changes it before it has ended.
            if self.cast == Cast::Growing && self.dice.chance(0.3) {
                experiment.grow(experiment.form());
            }
            let form = experiment.form();
            let ended = match coordinate(experiment, form, host).await {
                Ok(ExperimentEnd::Finished(_)) if !experiment.is_last(form) => {
                    experiment.grow(form);
                    continue;
                }
                Ok(ExperimentEnd::Finished(_)) => Ending::Finished,
                Ok(ExperimentEnd::Failed {
                    reasons,
                    report: Some(_),
                }) => Ending::Partial(reasons),
                Ok(ExperimentEnd::Failed { reasons, .. }) => Ending::Failed(reasons),
                Ok(ExperimentEnd::Interrupted) => return,
                Err(error) => {
                    tracing::info!(host, error = format!("{error:#}"), "the coordinator ended");
                    tokio::time::sleep(RESTART).await;
                    continue;
                }
            };
            experiment.end(ended);
        }
    }

    async fn supervise_worker(&self, host: &str) {
        let mut coordinators: Vec<Address> = self
            .coordinators()
            .iter()
            .map(|host| format!("{host}:{PORT}").parse().expect("an address"))
            .collect();
        if host == WORKERS[0] {
            // So each coordinator has a worker from the start.
            coordinators.reverse();
        }
        while !self.has_ended() {
            let started = self.started.fetch_add(1, Ordering::Relaxed);
            let settings = Settings {
                log: None,
                coordinators: coordinators.clone(),
                name: host.to_owned(),
                cache_dir: self.folder.path().join(host),
                give_up_after: Duration::from_secs(600),
                stay: self.cast == Cast::Queue,
                drain_grace: Duration::from_secs(5),
                connector: connector(),
                id: None,
                seed: self.dice.number() ^ started,
                secret: Secret::new(
                    (u128::from(self.dice.number()) << 64) | u128::from(self.dice.number()),
                ),
            };
            let executor = HashingExecutor {
                step: self.step,
                bytes: WEIGHTS,
                dice: Arc::clone(&self.dice),
            };
            match quartet_agent::run(settings, Arc::new(executor), Shutdown::new()).await {
                Ok(_) => {}
                Err(error) => {
                    tracing::info!(host, error = format!("{error:#}"), "the worker ended");
                }
            }
            tokio::time::sleep(RESTART).await;
        }
    }
}

async fn coordinate(
    simulated: &Simulated,
    form: usize,
    host: &str,
) -> anyhow::Result<ExperimentEnd> {
    let (source, address) = (Source::Synthetic, format!("{host}:{PORT}"));
    let spec = simulated.spec_of(form).clone();
    let mut request = Request::new(spec, source, address, connector());
    request.spec_is_explicit = true;
    request.update = form > 0;
    request.data.synthetic = faces();
    let mut progress = DownloadProgress::new(Box::new(std::io::sink()), Mode::Lines);
    let experiment = Experiment::open(simulated.store().clone(), request, &mut progress).await?;
    simulated.opened(form);
    let coordinator = Coordinator::new(
        experiment,
        WORKERS.len() as u32,
        timing(),
        Policy::Local,
        None,
    )
    .await?;
    coordinator.serve(incoming().await?, Shutdown::new()).await
}

/// The data of all experiments.
fn faces() -> SyntheticSpec {
    SyntheticSpec {
        train: 14,
        valid: 7,
        test: 7,
        ..SyntheticSpec::default()
    }
}

fn timing() -> Timing {
    Timing {
        heartbeat_interval: Duration::from_millis(200),
        lease: Duration::from_secs(3),
        progress_timeout: Duration::from_secs(20),
        checkpoint_interval: Duration::from_millis(700),
        ..Timing::default()
    }
}

/// The connections to a coordinator on this host.
async fn incoming() -> std::io::Result<BoxStream<'static, std::io::Result<Accepted>>> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let incoming = futures::stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| Accepted(stream));
        Some((accepted, listener))
    });
    Ok(Box::pin(incoming))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects over the simulated network.
fn connector() -> Connector {
    let service = service_fn(|uri: Uri| async move {
        let host = uri.host().unwrap_or_default().to_owned();
        let port = uri.port_u16().unwrap_or(PORT);
        let stream = TcpStream::connect((host, port)).await?;
        Ok::<_, std::io::Error>(TokioIo::new(stream))
    });
    Connector::new(
        move |endpoint: Endpoint| endpoint.connect_with_connector_lazy(service),
        move |endpoint| Box::pin(async move { endpoint.connect_with_connector(service).await }),
    )
}

/// A connection that was accepted.
struct Accepted(TcpStream);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl tokio::io::AsyncRead for Accepted {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for Accepted {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(context)
    }
}
