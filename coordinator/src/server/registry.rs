//! The experiments that this process leads, and which of them a worker works for.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quartet_proto::v1;
use quartet_shared::ids::{ExperimentId, ExperimentName, WorkerId};
use quartet_shared::spec::Precision;
use quartet_shared::task::LeaseId;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::access::Policy;
use super::objects::Downloads;
use super::shell::Shell;
use super::web::Live;
use crate::scheduler::Reserve;

/// How long a worker waits for an experiment before it has to ask again: less than it waits for a welcome.
const ANSWER_AFTER: Duration = Duration::from_secs(10);

/// How long a worker that was sent on may take to come to the experiment that wants it.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// An experiment that this process leads, from its opening to its end.
pub(super) struct Open {
    pub(super) shell: Arc<Shell>,
    /// Its page.
    pub(super) live: Live,
}

/// The experiments that this process leads.
pub(super) struct Registry {
    pub(super) policy: Policy,
    /// The memory of all downloads together.
    pub(super) downloads: Downloads,
    /// Something has changed that workers may be sent on for.
    pub(super) changed: Arc<Notify>,
    /// Wakes the workers that wait for an experiment.
    opened: Notify,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// In the order in which workers are sent to them.
    open: Vec<Arc<Open>>,
    /// Whether other experiments follow when these have ended.
    goes_on: bool,
    /// Whether experiments that were begun are still to be opened: workers may hold leases of them.
    starting: bool,
    /// Workers that wait for an experiment.
    waiting: BTreeMap<WorkerId, Waiter>,
    /// Workers that were sent on to an experiment.
    on_their_way: BTreeMap<WorkerId, (ExperimentId, Instant)>,
}

/// A worker that waits for an experiment.
struct Waiter {
    name: String,
    precisions: Vec<Precision>,
    /// How many of its calls wait.
    calls: u32,
    sent_home: CancellationToken,
}

/// What becomes of a worker that attaches.
pub(super) enum Choice {
    /// It works for this experiment.
    Work(Arc<Shell>),
    /// There is none for it now.
    Nothing,
    /// Somebody wants it to exit.
    SentHome,
}

/// A worker that attaches.
pub(super) struct Attaching<'a> {
    pub(super) worker: &'a WorkerId,
    /// Its name for people.
    pub(super) name: &'a str,
    pub(super) held: Option<&'a LeaseId>,
    /// In which it computes; none if it does not say.
    pub(super) precisions: &'a [Precision],
}

/// Where a worker works.
enum Place {
    Here(Arc<Open>),
    /// There is nothing for it now.
    Nowhere,
    /// Nobody knows yet.
    Starting,
}

impl Registry {
    pub(super) fn new(policy: Policy) -> Arc<Self> {
        Arc::new(Self {
            policy,
            downloads: Downloads::default(),
            changed: Arc::default(),
            opened: Notify::new(),
            inner: Mutex::default(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other experiments follow. Those that were begun are opened until [`Self::has_started`] is called.
    pub(super) fn go_on(&self) {
        let mut inner = self.inner();
        (inner.goes_on, inner.starting) = (true, true);
    }

    /// All experiments that were begun are open.
    pub(super) fn has_started(&self) {
        self.inner().starting = false;
        self.opened.notify_waiters();
    }

    /// No other experiment follows any more.
    pub(super) fn stop(&self) {
        let mut inner = self.inner();
        (inner.goes_on, inner.starting) = (false, false);
        drop(inner);
        self.opened.notify_waiters();
    }

    /// Whether workers are sent away: no other experiment follows, and none that is open goes on.
    pub(super) fn is_stopping(&self) -> bool {
        let inner = self.inner();
        let stops = |open: &Arc<Open>| open.shell.connections.is_stopping();
        !inner.goes_on && inner.open.iter().all(stops)
    }

    /// Adds an experiment after those `before` it.
    pub(super) fn open(&self, shell: &Arc<Shell>, before: impl Fn(&ExperimentName) -> bool) {
        let open = Arc::new(Open {
            shell: Arc::clone(shell),
            live: Live::start(shell),
        });
        let mut inner = self.inner();
        let earlier = |open: &Arc<Open>| before(&open.shell.experiment.spec.experiment.name);
        let at = inner.open.iter().position(|open| !earlier(open));
        let at = at.unwrap_or(inner.open.len());
        inner.open.insert(at, open);
        drop(inner);
        self.opened.notify_waiters();
        self.changed.notify_one();
    }

    /// Takes an experiment out, which has ended.
    pub(super) fn close(&self, shell: &Arc<Shell>) {
        self.inner()
            .open
            .retain(|open| !Arc::ptr_eq(&open.shell, shell));
        self.changed.notify_one();
    }

    /// All that are open, in order.
    pub(super) fn all(&self) -> Vec<Arc<Open>> {
        self.inner().open.clone()
    }

    /// The experiment of this name, or the first.
    pub(super) fn named(&self, name: &str) -> Result<Arc<Open>, Status> {
        let all = self.all();
        let is_it = |open: &&Arc<Open>| open.shell.experiment.spec.experiment.name.as_str() == name;
        match (name, all.first()) {
            ("", Some(first)) => Ok(Arc::clone(first)),
            ("", None) => Err(Status::failed_precondition(
                "no experiment is trained now; `status queue` shows what waits and what has ended",
            )),
            _ => all.iter().find(is_it).cloned().ok_or_else(|| {
                let names = all.iter().map(|open| open.shell.name().as_str());
                let trained = match &names.collect::<Vec<_>>()[..] {
                    [] => "nothing".to_owned(),
                    names => names.join(", "),
                };
                Status::not_found(format!(
                    "experiment {name} is not trained here now, but {trained}; `status queue` shows what \
                     waits and what has ended"
                ))
            }),
        }
    }

    /// The experiment of a lease. One that is of none comes to the first, which refuses it.
    pub(super) fn of_lease(&self, lease: Option<&v1::Lease>) -> Result<Arc<Shell>, Status> {
        let id = lease.map_or("", |lease| &lease.experiment_id);
        let inner = self.inner();
        let is_it = |open: &&Arc<Open>| open.shell.experiment.id.as_str() == id;
        let of_it = inner.open.iter().find(is_it);
        match (of_it, inner.open.first()) {
            (Some(open), _) => Ok(Arc::clone(&open.shell)),
            _ if inner.starting => Err(Status::unavailable("the coordinator is starting")),
            (None, Some(first)) => Ok(Arc::clone(&first.shell)),
            (None, None) => Err(Status::failed_precondition(
                "the experiment of this lease has ended, or its coordinator was replaced",
            )),
        }
    }

    /// The experiment whose workers read an object.
    pub(super) fn of_object(&self, key: &str) -> Result<Arc<Shell>, Status> {
        let inner = self.inner();
        let reads = |open: &&Arc<Open>| open.shell.experiment.layout.is_for_workers(key);
        match (inner.open.iter().find(reads), inner.open.first()) {
            (Some(open), _) => Ok(Arc::clone(&open.shell)),
            _ if inner.starting => Err(Status::unavailable("the coordinator is starting")),
            // It says why not.
            (None, Some(first)) => Ok(Arc::clone(&first.shell)),
            (None, None) => Err(Status::unavailable("no experiment is trained now")),
        }
    }

    /// The experiment that a worker works for, once there is one.
    ///
    /// # Errors
    /// UNAVAILABLE: it is not known yet.
    pub(super) async fn choose(&self, worker: &Attaching<'_>) -> Result<Choice, Status> {
        let mut counted = None;
        let until = Instant::now() + ANSWER_AFTER;
        loop {
            let mut opened = std::pin::pin!(self.opened.notified());
            // What opens from now on is noticed.
            opened.as_mut().enable();
            match self.place(worker) {
                Place::Here(open) => {
                    self.inner().on_their_way.remove(worker.worker);
                    return Ok(Choice::Work(Arc::clone(&open.shell)));
                }
                Place::Starting => {
                    return Err(Status::unavailable("the coordinator is starting"));
                }
                Place::Nowhere => {}
            }
            let waiting = counted.get_or_insert_with(|| Waiting::begin(self, worker));
            tokio::select! {
                biased;
                () = waiting.sent_home.cancelled() => return Ok(Choice::SentHome),
                () = opened => {}
                () = tokio::time::sleep_until(until) => return Ok(Choice::Nothing),
            }
        }
    }

    fn place(&self, worker: &Attaching<'_>) -> Place {
        let inner = self.inner();
        let open = || inner.open.iter();
        // Where it holds a lease it has something to do, or something is to be taken from it.
        let id = worker.worker;
        let of_held = |open: &&Arc<Open>| {
            let held = worker.held.map(|lease| &lease.experiment);
            held == Some(&open.shell.experiment.id)
        };
        let holds = |open: &&Arc<Open>| open.shell.scheduler.read(|s, _| s.holds_lease(id));
        if let Some(open) = open().find(of_held).or_else(|| open().find(holds)) {
            return Place::Here(Arc::clone(open));
        }
        if worker.held.is_some() && inner.starting {
            return Place::Starting;
        }
        if !inner.goes_on {
            return match inner.open.first() {
                Some(open) => Place::Here(Arc::clone(open)),
                None => Place::Nowhere,
            };
        }
        let goes_to = inner.on_their_way.get(id).map(|(experiment, _)| experiment);
        let fits = |open: &&Arc<Open>| {
            !open.shell.is_over() && computes(worker.precisions, open.shell.precision())
        };
        let wanted = open().filter(fits).find(|open| {
            goes_to == Some(&open.shell.experiment.id) || inner.wanted_by(&open.shell) > 0
        });
        // Else it is a spare.
        let place = wanted.or_else(|| open().find(fits));
        match place {
            Some(open) => Place::Here(Arc::clone(open)),
            None => Place::Nowhere,
        }
    }

    /// Sends workers that have nothing to do to experiments that want more, and has later experiments leave
    /// workers to earlier ones. Returns in which precisions those compute for whom nothing that is open has
    /// anything to do, one entry for each: others could be opened for them.
    pub(super) fn balance(&self) -> Vec<Vec<Precision>> {
        let mut inner = self.inner();
        let now = Instant::now();
        inner
            .on_their_way
            .retain(|_, (_, sent)| now.duration_since(*sent) < ON_ITS_WAY);
        let open = inner.open.iter().map(|open| Arc::clone(&open.shell));
        let open: Vec<_> = open.filter(|shell| !shell.is_over()).collect();
        let mut spares = spares(&open);
        let mut sent = Vec::new();
        let mut unserved: Vec<(usize, usize)> = Vec::new();
        for (index, shell) in open.iter().enumerate() {
            let mut wanted = inner.wanted_by(shell);
            while wanted > 0 {
                // One that has something to do goes to an earlier experiment alone.
                let fits = |spare: &Spare| {
                    (spare.is_idle || spare.of > index) && computes(&spare.can, shell.precision())
                };
                let Some(at) = spares.iter().position(fits) else {
                    break;
                };
                let spare = spares.remove(at);
                let experiment = shell.experiment.id.clone();
                inner
                    .on_their_way
                    .insert(spare.worker.clone(), (experiment, now));
                sent.push((Arc::clone(&open[spare.of]), spare.worker));
                wanted -= 1;
            }
            if wanted > 0 {
                unserved.push((index, wanted));
            }
        }
        reserve(&open, &unserved);
        let is_wanted = |can: &Vec<Precision>| {
            let mut unserved = unserved.iter();
            unserved.any(|(index, _)| computes(can, open[*index].precision()))
        };
        let spares = spares.into_iter().filter(|spare| spare.is_idle);
        let waiting = inner
            .waiting
            .values()
            .map(|waiter| waiter.precisions.clone());
        let left = spares.map(|spare| spare.can).chain(waiting);
        let left = left.filter(|can| !is_wanted(can)).collect();
        drop(inner);
        for (from, worker) in sent {
            tracing::info!(%worker, experiment = %from.name(), "sent on to another experiment");
            from.send_on(&worker);
        }
        self.opened.notify_waiters();
        left
    }

    /// Sends workers home that wait for an experiment: that of this id or name, or all. Returns their ids.
    pub(super) fn send_home(&self, worker: Option<&str>) -> Vec<WorkerId> {
        let inner = self.inner();
        let is_meant = |(id, waiter): &(&WorkerId, &Waiter)| {
            worker.is_none_or(|worker| id.as_str() == worker || waiter.name == worker)
        };
        let sent = inner.waiting.iter().filter(is_meant).map(|(id, waiter)| {
            waiter.sent_home.cancel();
            id.clone()
        });
        sent.collect()
    }

    /// How many workers wait for an experiment.
    pub(super) fn waiting(&self) -> usize {
        self.inner().waiting.len()
    }

    /// Workers that wait for an experiment or work for one.
    pub(super) fn present(&self) -> usize {
        let open = self.all();
        let at_work = open
            .iter()
            .map(|open| open.shell.connections.workers().len());
        at_work.sum::<usize>() + self.waiting()
    }

    /// Workers that wait for an experiment, or that look for one once those that are open have ended.
    pub(super) fn staying(&self) -> usize {
        let waiting = self.waiting();
        let open = self.all();
        open.iter().map(|open| open.shell.staying()).sum::<usize>() + waiting
    }

    /// Resolves when something has changed that workers may be sent on for.
    pub(super) fn changed(&self) -> impl Future<Output = ()> + '_ {
        self.changed.notified()
    }
}

impl Inner {
    /// How many workers an experiment wants that are not there, nor on their way.
    fn wanted_by(&self, shell: &Shell) -> usize {
        let to_it = |(to, _): &&(ExperimentId, Instant)| *to == shell.experiment.id;
        let coming = self.on_their_way.values().filter(to_it).count();
        shell.wanted().saturating_sub(coming)
    }
}

/// A worker that may be sent on.
struct Spare {
    /// The place of its experiment.
    of: usize,
    worker: WorkerId,
    can: Vec<Precision>,
    /// Whether its experiment has nothing for it.
    is_idle: bool,
}

/// The workers that hold no lease and stay, those of the last experiment first.
fn spares(open: &[Arc<Shell>]) -> Vec<Spare> {
    let of_shell = |(of, shell): (usize, &Arc<Shell>)| {
        let (movable, is_idle) = shell
            .scheduler
            .read(|s, now| (s.movable(), s.ready_tasks(now).is_empty()));
        movable.into_iter().map(move |(worker, can)| Spare {
            of,
            worker,
            can,
            is_idle,
        })
    };
    open.iter().enumerate().rev().flat_map(of_shell).collect()
}

/// Has later experiments leave as many workers without a task as earlier ones want: each will be sent on when
/// its present task has ended.
fn reserve(open: &[Arc<Shell>], unserved: &[(usize, usize)]) {
    let mut wanted: Vec<_> = unserved.to_vec();
    for (place, shell) in open.iter().enumerate().rev() {
        let mut kept: Option<Reserve> = None;
        for (index, left) in &mut wanted {
            let precision = open[*index].precision();
            let is_same = kept.is_none_or(|kept| kept.precision == precision);
            if *index >= place || *left == 0 || !is_same {
                continue;
            }
            let workers = shell.scheduler.read(|s, _| s.at_work(precision));
            let taken = kept.map_or(0, |kept| kept.workers);
            let more = workers.saturating_sub(taken).min(*left);
            *left -= more;
            kept = Some(Reserve {
                workers: taken + more,
                precision,
            });
        }
        shell.reserve(kept.filter(|kept| kept.workers > 0));
    }
}

/// Whether a worker that names these precisions, or none, computes in this one.
pub(super) fn computes(named: &[Precision], precision: Precision) -> bool {
    named.is_empty() || named.contains(&precision)
}

/// A call of a worker that waits for an experiment.
struct Waiting<'a> {
    registry: &'a Registry,
    worker: WorkerId,
    sent_home: CancellationToken,
}

impl<'a> Waiting<'a> {
    fn begin(registry: &'a Registry, worker: &Attaching<'_>) -> Self {
        let mut inner = registry.inner();
        let waiter = inner.waiting.entry(worker.worker.clone());
        let waiter = waiter.or_insert_with(|| Waiter {
            name: worker.name.to_owned(),
            precisions: worker.precisions.to_vec(),
            calls: 0,
            sent_home: CancellationToken::new(),
        });
        waiter.calls += 1;
        let sent_home = waiter.sent_home.clone();
        drop(inner);
        registry.changed.notify_one();
        Self {
            registry,
            worker: worker.worker.clone(),
            sent_home,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut inner = self.registry.inner();
        if let Some(waiter) = inner.waiting.get_mut(&self.worker) {
            waiter.calls -= 1;
            if waiter.calls == 0 {
                inner.waiting.remove(&self.worker);
            }
        }
    }
}
