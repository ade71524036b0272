//! What this process does for a queue: it leads one experiment after the other, and the next one, too, while
//! workers have nothing to do.
//!
//! - `lead`: how an entry is led to its end

mod lead;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use quartet_identity::session::Sessions;
use quartet_proto::channel::Connector;
use quartet_shared::ids::ExperimentName;
use quartet_shared::report::EvaluationReport;
use quartet_shared::shutdown::Shutdown;
use quartet_shared::spec::Precision;
use quartet_store::layout::Layout;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tonic::transport::server::Connected;

use super::access::Policy;
use super::exits::Exits;
use super::last_calls::close_term;
use super::leader::LEADERSHIP_INTERVAL;
use super::queue_service::QueueService;
use super::registry::{Registry, computes};
use super::services::Services;
use super::timing::Timing;
use crate::leadership::{self, LeadershipError};
use crate::queue::{Entry, How, Queue};

/// Wait after a change until others are looked at, too: they come in bursts.
const SETTLE: Duration = Duration::from_millis(50);
/// Wait after a failure of the store.
const PAUSE: Duration = Duration::from_secs(5);

/// How this coordinator can be reached, and how it reaches others.
#[derive(Clone, Debug)]
pub struct Contact {
    /// `HOST:PORT` at which this coordinator can be reached.
    pub address: String,
    /// How another coordinator is reached.
    pub connector: Connector,
    /// How to ask a coordinator that does not speak TLS, where the other way does.
    pub plain_connector: Option<Connector>,
}

impl Contact {
    /// How other coordinators may be reached.
    #[must_use]
    pub fn connectors(&self) -> Vec<&Connector> {
        let all = [Some(&self.connector), self.plain_connector.as_ref()];
        all.into_iter().flatten().collect()
    }
}

/// What people are told of a queue.
#[derive(Debug)]
pub enum News {
    /// An experiment is trained from now on.
    Began {
        /// Its name.
        experiment: ExperimentName,
        /// How many runs it has.
        runs: usize,
    },
    /// An entry has ended.
    Ended {
        /// The experiment.
        experiment: ExperimentName,
        /// In which way.
        how: How,
        /// Why.
        reason: String,
        /// The evaluation, if there is one.
        report: Option<Box<EvaluationReport>>,
    },
    /// An experiment was put into the queue.
    Submitted {
        /// Its name.
        experiment: ExperimentName,
        /// How many are before it.
        before: usize,
    },
}

/// A coordinator that rules a queue.
pub struct QueueRunner {
    pub(super) queue: Queue,
    registry: Arc<Registry>,
    workers_expected: u32,
    timing: Timing,
    sessions: Option<Arc<Sessions>>,
    contact: Contact,
    led: Mutex<Led>,
    news: mpsc::UnboundedSender<News>,
}

/// The entries that this process has begun to lead.
#[derive(Default)]
struct Led {
    /// Those that are being opened for the first time: others begin after them.
    opening: BTreeSet<u32>,
    /// Those that an earlier coordinator had begun, and that are not open yet: workers may hold leases of
    /// them.
    awaited: BTreeSet<u32>,
    /// The experiment of each, and what ends it.
    all: BTreeMap<u32, (ExperimentName, Shutdown)>,
}

impl Led {
    /// An entry is open, or nobody needs to wait for that.
    fn opened(&mut self, number: u32) {
        self.opening.remove(&number);
        self.awaited.remove(&number);
    }
}

impl QueueRunner {
    /// A coordinator of this queue, and what is to be told of it. Browsers need a session where keys are
    /// used.
    #[must_use]
    pub fn new(
        queue: Queue,
        contact: Contact,
        workers_expected: u32,
        timing: Timing,
        policy: Policy,
        sessions: Option<Sessions>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<News>) {
        let (news, heard) = mpsc::unbounded_channel();
        let runner = Self {
            queue,
            registry: Registry::new(policy),
            workers_expected,
            timing,
            sessions: sessions.map(Arc::new),
            contact,
            led: Mutex::default(),
            news,
        };
        (Arc::new(runner), heard)
    }

    /// Where the ends of worker processes are told that this process has started.
    #[must_use]
    pub fn exits(&self) -> Exits {
        Exits(Arc::clone(&self.registry))
    }

    /// How many workers look for an experiment or a coordinator once this one has ended.
    #[must_use]
    pub fn staying(&self) -> usize {
        self.registry.staying()
    }

    /// How many workers are there.
    #[must_use]
    pub fn present(&self) -> usize {
        self.registry.present()
    }

    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    fn led(&self) -> MutexGuard<'_, Led> {
        self.led.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, news: News) {
        // Nobody need listen.
        let _ = self.news.send(news);
    }

    /// Serves the connections of `incoming` until a shutdown is asked for, or this coordinator cannot go on.
    ///
    /// # Errors
    /// The store has failed permanently, a newer coordinator rules the queue
    /// ([`Replaced`](leadership::Replaced)), or the server fails.
    pub async fn serve<I, IO, E>(
        self: Arc<Self>,
        incoming: I,
        shutdown: Shutdown,
    ) -> anyhow::Result<()>
    where
        I: Stream<Item = Result<IO, E>> + Send + 'static,
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        self.registry.go_on();
        let queue = QueueService {
            registry: Arc::clone(&self.registry),
            runner: Some(Arc::clone(&self)),
        };
        let sessions = self.sessions.clone();
        let mut services = Services::start(&self.registry, queue, self.timing, sessions, incoming);
        let mut leaders = JoinSet::new();
        let ruled = tokio::select! {
            biased;
            ruled = self.rule(&mut leaders, &shutdown) => ruled,
            failed = services.failed() => return Err(failed),
        };
        self.registry.stop();
        for (_, stop) in self.led().all.values() {
            stop.trigger();
        }
        while let Some(led) = leaders.join_next().await {
            if let Err(error) = flat(led) {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "an experiment could not be left in order"
                );
            }
        }
        if ruled.is_ok() {
            close_term(|| self.queue.close_term()).await;
        }
        services.stop().await;
        ruled
    }

    /// Leads experiments until a shutdown is asked for, or this coordinator cannot go on.
    async fn rule(
        self: &Arc<Self>,
        leaders: &mut JoinSet<anyhow::Result<()>>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let mut replaced = pin!(self.replaced());
        let begun = tokio::select! {
            biased;
            () = shutdown.triggered() => return Ok(()),
            error = &mut replaced => return Err(error),
            begun = self.begun() => begun,
        };
        for (number, experiment) in begun {
            self.led().awaited.insert(number);
            self.begin(leaders, number, experiment);
        }
        let mut starting = true;
        loop {
            let (is_opening, is_awaited) = {
                let led = self.led();
                (!led.opening.is_empty(), !led.awaited.is_empty())
            };
            if starting && !is_awaited {
                self.registry.has_started();
                starting = false;
            }
            let free = self.registry.balance();
            if !is_opening && let Some((number, entry)) = self.next(&free) {
                self.begin(leaders, number, entry.experiment);
                continue;
            }
            let changed = async {
                self.registry.changed().await;
                tokio::time::sleep(SETTLE).await;
            };
            tokio::select! {
                biased;
                () = shutdown.triggered() => return Ok(()),
                Some(led) = leaders.join_next() => flat(led)?,
                error = &mut replaced => return Err(error),
                () = changed => {}
            }
        }
    }

    /// The entries that a coordinator has led, and whose tasks workers may have.
    async fn begun(&self) -> Vec<(u32, ExperimentName)> {
        let mut begun = Vec::new();
        for (number, entry) in self.queue.waiting() {
            if self.is_begun(&entry.experiment).await {
                begun.push((number, entry.experiment));
            }
        }
        begun
    }

    /// Resolves with the reason when this coordinator rules the queue no more.
    async fn replaced(&self) -> anyhow::Error {
        loop {
            tokio::time::sleep(LEADERSHIP_INTERVAL).await;
            match self.queue.verify_leadership().await {
                Ok(()) => {}
                Err(LeadershipError::Store(error)) if !error.is_permanent() => {}
                Err(error) => return error.into(),
            }
        }
    }

    /// Whether a coordinator has led the experiment, and perhaps given its tasks to workers.
    async fn is_begun(&self, experiment: &ExperimentName) -> bool {
        let claims = Layout::new(experiment.clone()).claims();
        loop {
            match leadership::newest(self.queue.store(), &claims).await {
                Ok(newest) => return newest.is_some(),
                // Whoever opens it finds out what that means.
                Err(error) if error.is_permanent() => return true,
                Err(error) => {
                    tracing::error!(%error, "the store failed; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// The entry that is to begin now, if one is: while nothing is trained, for workers that are free and
    /// compute in such precisions, or before what is trained already.
    fn next(&self, free: &[Vec<Precision>]) -> Option<(u32, Entry)> {
        let led = self.led();
        let waiting = self.queue.waiting();
        // One that was cancelled and came again may still be about to end.
        let is_led = |(_, entry): &&(u32, Entry)| {
            let mut all = led.all.values();
            all.any(|(experiment, _)| *experiment == entry.experiment)
        };
        if led.all.is_empty() {
            return waiting.first().cloned();
        }
        let last = waiting.iter().rposition(|entry| is_led(&entry));
        let (earlier, later) = waiting.split_at(last.map_or(0, |last| last + 1));
        let is_wanted =
            |(_, entry): &&(u32, Entry)| free.iter().any(|can| computes(can, entry.precision));
        let mut earlier = earlier.iter().filter(|entry| !is_led(entry));
        let mut later = later.iter().filter(|entry| !is_led(entry));
        let next = earlier.next().or_else(|| later.find(is_wanted));
        next.cloned()
    }

    fn begin(
        self: &Arc<Self>,
        leaders: &mut JoinSet<anyhow::Result<()>>,
        number: u32,
        experiment: ExperimentName,
    ) {
        let stop = Shutdown::new();
        let mut led = self.led();
        led.opening.insert(number);
        led.all.insert(number, (experiment.clone(), stop.clone()));
        drop(led);
        let runner = Arc::clone(self);
        leaders.spawn(async move {
            let ended = runner.lead(number, &experiment, &stop).await;
            let mut led = runner.led();
            led.opened(number);
            led.all.remove(&number);
            drop(led);
            runner.registry.changed.notify_one();
            ended
        });
    }

    /// Takes an experiment out of the queue. Returns whether it was being trained; `None` if it neither
    /// waited nor was trained.
    ///
    /// # Errors
    /// A newer coordinator rules the queue, or the store fails.
    pub(super) async fn cancel(
        &self,
        experiment: &ExperimentName,
        reason: &str,
    ) -> Result<Option<bool>, LeadershipError> {
        let Some(number) = self.queue.find(experiment) else {
            return Ok(None);
        };
        // Before the workers hear of it: nothing brings it back.
        if !self.queue.end(number, How::Cancelled, reason).await? {
            return Ok(None);
        }
        let led = self.led().all.get(&number).cloned();
        if let Some((_, stop)) = &led {
            stop.trigger();
        }
        self.tell(News::Ended {
            experiment: experiment.clone(),
            how: How::Cancelled,
            reason: reason.to_owned(),
            report: None,
        });
        Ok(Some(led.is_some()))
    }
}

fn flat(led: Result<anyhow::Result<()>, JoinError>) -> anyhow::Result<()> {
    led.unwrap_or_else(|panic| {
        Err(anyhow::Error::from(panic).context("leading an experiment panicked"))
    })
}
