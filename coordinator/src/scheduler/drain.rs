//! Workers that are asked to hand their tasks back.

use quartet_shared::event::Occurrence;
use quartet_shared::ids::WorkerId;
use quartet_shared::spec::Precision;

use super::Scheduler;
use super::refusal::UnknownWorker;
use super::worker::{Worker, WorkerStage};

/// Why a worker is asked to hand its task back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainCause {
    /// This coordinator stops, or trains the experiment no further. A worker that stays looks for the next
    /// one.
    CoordinatorStops,
    /// The worker, which stays, has nothing to do here, and there is another experiment.
    SentOn,
    /// Somebody wants the worker to exit.
    SentHome,
}

impl Scheduler {
    /// Asks a worker to hand its task back and leave: it gets no more tasks.
    ///
    /// # Errors
    /// The worker is not connected.
    pub fn drain(&mut self, worker: &WorkerId, cause: DrainCause) -> Result<(), UnknownWorker> {
        let known = self.connected_mut(worker)?;
        known.sent_home |= cause == DrainCause::SentHome;
        let was_draining = std::mem::replace(&mut known.draining, true);
        if known.stage == WorkerStage::Idle {
            known.stage = WorkerStage::Draining;
        }
        if !was_draining {
            self.note_of(worker, |worker| Occurrence::WorkerDrained { worker });
        }
        Ok(())
    }

    /// Whether a worker was asked to exit, and may not have heard of it.
    #[must_use]
    pub fn is_sent_home(&self, worker: &WorkerId) -> bool {
        self.workers
            .get(worker)
            .is_some_and(|worker| worker.sent_home)
    }

    /// Whether a worker looks for the next coordinator after this one.
    #[must_use]
    pub fn stays(&self, worker: &WorkerId) -> bool {
        self.workers.get(worker).is_some_and(Worker::stays)
    }

    /// The workers that stay and have nothing to do, with the precisions in which they compute.
    #[must_use]
    pub fn movable(&self) -> Vec<(WorkerId, Vec<Precision>)> {
        let idle = self.workers().filter(|worker| {
            worker.stage == WorkerStage::Idle && worker.connected && worker.stays()
        });
        let movable = idle.map(|worker| (worker.info.id.clone(), worker.info.precisions.clone()));
        movable.collect()
    }

    /// How many workers stay, compute in this precision and work on a task.
    #[must_use]
    pub fn at_work(&self, precision: Precision) -> usize {
        let at_work = self.workers().filter(|worker| {
            matches!(worker.stage, WorkerStage::Busy(_))
                && worker.connected
                && self.can_move(&worker.info.id, precision)
        });
        at_work.count()
    }

    /// Whether a worker stays and computes in this precision.
    pub(super) fn can_move(&self, worker: &WorkerId, precision: Precision) -> bool {
        self.workers.get(worker).is_some_and(|worker| {
            let named = &worker.info.precisions;
            worker.stays() && (named.is_empty() || named.contains(&precision))
        })
    }

    /// The connected workers that look for the next coordinator after this one.
    pub fn staying(&self) -> impl Iterator<Item = &WorkerId> {
        let connected = self.workers().filter(|worker| worker.connected);
        let staying = connected.filter(|worker| worker.stays());
        staying.map(|worker| &worker.info.id)
    }
}

impl Worker {
    /// Whether it looks for the next coordinator once this one needs it no longer.
    #[must_use]
    pub fn stays(&self) -> bool {
        self.info.stays && !self.sent_home
    }

    /// Whether it drains once it has joined on a new connection. A worker that stays hands its task back
    /// without being about to exit, and wants the next one then.
    pub(super) fn drains_again(&self) -> bool {
        self.sent_home || (self.draining && !self.info.stays)
    }
}
