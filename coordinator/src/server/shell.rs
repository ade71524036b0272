//! The shell around the scheduler: everything that the services and the driver share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quartet_proto::v1::{self, coordinator_message::Message};
use quartet_shared::dataset::Summary;
use quartet_shared::human;
use quartet_shared::ids::{ExperimentName, RunName, WorkerId};
use quartet_shared::secret::Secret;
use quartet_shared::spec::Precision;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tonic::Status;

use super::access::Policy;
use super::conclusion::Conclusion;
use super::connections::Connections;
use super::history::History;
use super::logs::Logs;
use super::objects::Downloads;
use super::refusal::{self, bad};
use super::registry::Registry;
use super::scheduler_handle::SchedulerHandle;
use super::store_trouble::{Proof, Trouble};
use super::worker_stream::StreamEnd;
use crate::experiment::{Experiment, read_committed};
use crate::leadership::LeadershipError;
use crate::scheduler::{Committed, DrainCause, Reserve, Scheduler};
use quartet_store::StoreError;

/// Everything that the services and the driver share.
pub(super) struct Shell {
    pub(super) experiment: Experiment,
    pub(super) scheduler: SchedulerHandle,
    pub(super) history: Arc<History>,
    pub(super) connections: Connections,
    pub(super) conclusion: Conclusion,
    pub(super) policy: Policy,
    attaching: Mutex<()>,
    /// What other experiments want of this one's workers.
    reserved: Mutex<Option<Reserve>>,
    pub(super) downloads: Downloads,
    pub(super) store_trouble: Trouble,
    pub(super) logs: Logs,
    dataset: OnceCell<Summary>,
}

impl Shell {
    pub(super) fn new(experiment: Experiment, scheduler: Scheduler, registry: &Registry) -> Self {
        let history = Arc::new(History::default());
        let changed = Arc::clone(&registry.changed);
        Self {
            experiment,
            scheduler: SchedulerHandle::new(scheduler, Arc::clone(&history), changed),
            history,
            connections: Connections::default(),
            conclusion: Conclusion::default(),
            policy: registry.policy,
            attaching: Mutex::default(),
            reserved: Mutex::default(),
            downloads: registry.downloads.clone(),
            store_trouble: Trouble::default(),
            logs: Logs::default(),
            dataset: OnceCell::new(),
        }
    }

    /// The experiment's name.
    pub(super) fn name(&self) -> &ExperimentName {
        &self.experiment.spec.experiment.name
    }

    /// What the experiment is computed in.
    pub(super) fn precision(&self) -> Precision {
        self.experiment.spec.experiment.precision
    }

    /// How many more workers have something to do here than are idle.
    pub(super) fn wanted(&self) -> usize {
        let wanted = |scheduler: &Scheduler, now| {
            let ready = scheduler.ready_tasks(now).len();
            ready.saturating_sub(scheduler.idle_workers().len())
        };
        match self.is_over() {
            true => 0,
            false => self.scheduler.read(wanted),
        }
    }

    /// The workers that are left without a task.
    pub(super) fn reserved(&self) -> Option<Reserve> {
        *self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these workers are left without a task.
    pub(super) fn reserve(&self, reserve: Option<Reserve>) {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *reserved, reserve);
        drop(reserved);
        if before != reserve {
            // Those that were left may get one.
            self.scheduler.wake();
        }
    }

    /// Held while a worker attaches.
    pub(super) fn attaching(&self) -> MutexGuard<'_, ()> {
        self.attaching
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether whoever calls in a worker's name proves to be it. Of a worker that is not known nothing can be
    /// proven; it holds no lease.
    pub(super) fn verify_secret(&self, worker: &WorkerId, shown: &[u8]) -> Result<(), Status> {
        let shown = Secret::try_from(shown).map_err(bad)?.hash();
        let known = |scheduler: &Scheduler| scheduler.secret_of(worker).is_none_or(|s| *s == shown);
        if self.scheduler.read(|scheduler, _| known(scheduler)) {
            return Ok(());
        }
        tracing::warn!(%worker, "someone without its secret calls in its name");
        Err(Status::permission_denied(format!(
            "the secret is not that of worker {worker}"
        )))
    }

    /// Asks a worker to hand its task back and leave; whether it is connected.
    pub(super) fn drain(&self, worker: &WorkerId, cause: DrainCause) -> bool {
        let drain = |scheduler: &mut Scheduler| scheduler.drain(worker, cause).is_ok();
        let known = self.scheduler.tell(|scheduler, _| drain(scheduler));
        let reason = match cause {
            DrainCause::CoordinatorStops => "the experiment is trained here no further",
            DrainCause::SentOn => "another experiment wants it",
            DrainCause::SentHome => "someone asked for it",
        };
        let drain = v1::Drain {
            reason: reason.to_owned(),
            looks_on: cause != DrainCause::SentHome,
        };
        self.connections.send(worker, Message::Drain(drain));
        known
    }

    /// Asks a worker that has nothing to do here to look for another experiment.
    pub(super) fn send_on(&self, worker: &WorkerId) {
        self.drain(worker, DrainCause::SentOn);
    }

    /// Asks every connected worker to hand its task back and leave; how many there are.
    pub(super) fn drain_all(&self, cause: DrainCause) -> usize {
        let workers = self.connections.workers();
        let connected = workers.iter().filter(|worker| self.drain(worker, cause));
        connected.count()
    }

    /// Whether workers are sent on: the experiment has ended, or this coordinator stops.
    pub(super) fn is_over(&self) -> bool {
        self.conclusion.has_ended() || self.connections.is_stopping()
    }

    /// How many workers look for the next coordinator once this one has ended.
    pub(super) fn staying(&self) -> usize {
        let connected = self
            .scheduler
            .read(|scheduler, _| scheduler.staying().cloned().collect());
        self.connections.staying(connected)
    }

    /// A worker's stream has ended in this way. Nothing happens if it is not
    /// the worker's current stream.
    pub(super) fn detach(&self, worker: &WorkerId, stream: u64, end: &StreamEnd) {
        if !self.connections.detach(worker, stream) {
            return;
        }
        if self.is_over() && self.scheduler.read(|scheduler, _| scheduler.stays(worker)) {
            self.connections.sent_on(worker);
        }
        if self.conclusion.has_ended() {
            // It was told so, and nobody waits for it.
            return self.scheduler.mark_changed();
        }
        let holds = self.scheduler.note(|scheduler, now| {
            let has_left = match end {
                StreamEnd::Left => true,
                // It was on its way: it has handed back what it had.
                StreamEnd::Closed => !scheduler.holds_lease(worker),
                StreamEnd::Broken(_) => false,
            };
            match has_left {
                true => scheduler.left(worker, now),
                false => scheduler.disconnected(worker, now),
            }
            scheduler.holds_lease(worker)
        });
        if holds {
            // There is a new deadline. Without a lease there is none: thousands of idle workers may go
            // within a second.
            self.scheduler.wake();
        }
    }

    /// Ends this coordinator, which cannot go on.
    pub(super) fn give_up(&self, reason: anyhow::Error) {
        self.conclusion.set_error(reason);
        self.scheduler.wake();
    }

    /// The status for a failure of the store, which a worker may retry. A permanent failure ends this
    /// coordinator.
    pub(super) fn store_failed(&self, error: StoreError) -> Status {
        self.history.counters.store_failed();
        tracing::error!(%error, "the store failed");
        if !matches!(error, StoreError::NotFound { .. }) {
            let ended_by = match error.is_of_write() {
                true => Proof::Write,
                false => Proof::Read,
            };
            self.store_trouble
                .begin(Instant::now(), &error.to_string(), ended_by);
            self.scheduler.mark_changed();
        }
        let status = refusal::store_failed(&error);
        if error.is_permanent() {
            self.give_up(
                anyhow::Error::from(error).context(
                    "mend the store, then start this again with the same --store and --name",
                ),
            );
        }
        status
    }

    /// The store has not answered for so long, which is no failure yet.
    pub(super) fn store_is_silent(&self, silence: Duration) {
        let location = self.experiment.store.location();
        let reason = format!(
            "{location} has not answered for {}",
            human::duration(silence)
        );
        tracing::warn!(%reason, "the store is silent");
        let now = Instant::now();
        let since = now.checked_sub(silence).unwrap_or(now);
        self.store_trouble.begin(since, &reason, Proof::Read);
        self.scheduler.mark_changed();
    }

    /// The store has done what this proves.
    pub(super) fn store_works(&self, proof: Proof) {
        if self.store_trouble.end(proof) {
            tracing::info!("the store works again");
            self.scheduler.mark_changed();
        }
    }

    /// How far a run is in the store.
    pub(super) async fn read_committed(&self, run: &RunName) -> Result<Committed, Status> {
        let read = read_committed(&self.experiment, run).await;
        read.map_err(|error| match error.downcast::<StoreError>() {
            Ok(error) => self.store_failed(error),
            Err(error) => refusal::unreadable(&error),
        })
    }

    /// What the data set's beginning says of it, which is read once.
    pub(super) async fn dataset(&self) -> Result<&Summary, Status> {
        self.dataset.get_or_try_init(|| self.read_dataset()).await
    }

    async fn read_dataset(&self) -> Result<Summary, Status> {
        let Experiment { store, spec, .. } = &self.experiment;
        let key = &spec.dataset.key;
        match store.read_index(key).await {
            Ok(index) => Ok(index.summary()),
            Err(error) if error.is_of_content() => Err(Status::data_loss(error.to_string())),
            Err(error) => Err(self.store_failed(error)),
        }
    }

    /// Verifies that this coordinator is still the experiment's leader. If it is not, it ends.
    pub(super) async fn verify_leadership(&self) -> Result<(), Status> {
        match self.experiment.verify_leadership().await {
            Ok(()) => {
                self.store_works(Proof::Read);
                Ok(())
            }
            Err(error) => Err(self.leadership_failed(error)),
        }
    }

    /// The status for a fact that may not be written. A coordinator that was replaced ends.
    pub(super) fn leadership_failed(&self, error: LeadershipError) -> Status {
        match error {
            LeadershipError::Store(error) => self.store_failed(error),
            LeadershipError::Replaced(replaced) => {
                let status = refusal::replaced(&replaced);
                self.give_up(replaced.into());
                status
            }
        }
    }
}
