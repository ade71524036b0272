//! The experiments that this process leads, and which of them a worker works for.
//!
//! - `balance`: workers that have nothing to do go where they are wanted
//! - `waiting`: workers for whom there is no experiment

mod balance;
mod waiting;

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
use tonic::Status;

use super::access::Policy;
use super::objects::Downloads;
use super::shell::Shell;
use super::web::Live;
use waiting::{Waiter, Waiting};

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
        let earlier = |open: &Arc<Open>| before(open.shell.name());
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
        let is_it = |open: &&Arc<Open>| open.shell.name().as_str() == name;
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

/// Whether a worker that names these precisions, or none, computes in this one.
pub(super) fn computes(named: &[Precision], precision: Precision) -> bool {
    named.is_empty() || named.contains(&precision)
}
