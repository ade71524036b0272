//! Workers join, are heard of, and go.

use quartet_shared::ids::WorkerId;
use quartet_shared::progress::Progress;
use quartet_shared::task::LeaseId;

use super::Scheduler;
use super::config::Now;
use super::refusal::{Refusal, UnknownWorker};
use super::state::{Ending, Lease, TaskRecord, Worker, WorkerInfo, WorkerState};

/// What a worker is after it has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Joined {
    /// It holds no lease.
    Free,
    /// It keeps the lease that it held.
    Reattached(LeaseId),
    /// It has to drop the lease that it held.
    Refused {
        /// The lease.
        lease: LeaseId,
        /// Why it holds no longer.
        refusal: Refusal,
    },
}

impl Joined {
    /// Why the worker has to drop the lease that it held, if it has to.
    #[must_use]
    pub fn refused(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            Self::Free | Self::Reattached(_) => None,
        }
    }
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum HeartbeatReply {
    /// All is well.
    Accepted,
    /// The worker has to drop the lease that it named.
    Refused(Refusal),
}

impl HeartbeatReply {
    /// Why the worker has to drop the lease that it named, if it has to.
    #[must_use]
    pub fn refused(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Accepted => None,
        }
    }
}

impl Scheduler {
    /// A worker joins, or joins again on a new connection with the lease that it still works under.
    ///
    /// It keeps a lease that is live. A lease that the scheduler thinks it holds but that it does not name is lost; one of
    /// before a restart of the coordinator had ended without a trace, and counts for nothing.
    pub fn join(&mut self, info: WorkerInfo, held: Option<LeaseId>, now: Now) -> Joined {
        let id = info.id.clone();
        // One at most, unless an older coordinator gave them, which did not write down how they ended.
        let others: Vec<_> = self
            .leases_of(&id)
            .filter(|lease| held.as_ref() != Some(&lease.id))
            .map(|lease| (lease.id.clone(), lease.restored.is_some()))
            .collect();
        for (lease, restored) in others {
            let ending = match restored {
                true => Ending::HandedBack,
                false => Ending::Lost("its worker came back without it".into()),
            };
            self.end_lease(&lease, ending, now);
        }
        // A worker that was started again in the place of one that is gone has the same name and an id of its own.
        self.workers.retain(|_, known| {
            let gone = known.state == WorkerState::Lost && !known.connected;
            !gone || known.info.name != info.name || known.info.id == id
        });
        let known = self.workers.remove(&id);
        let (draining, failed) =
            known.map_or_else(Default::default, |known| (known.draining, known.failed));
        let state = WorkerState::Idle;
        let mut worker = Worker {
            info,
            state,
            last_seen: now,
            connected: true,
            draining,
            failed,
        };
        // A lease that the worker keeps is set below.
        worker.state = worker.free_state();
        self.workers.insert(id.clone(), worker);
        let Some(lease) = held else {
            return Joined::Free;
        };
        match self.reattach(&lease, &id, now) {
            Ok(()) => {
                self.set_state(&id, WorkerState::Busy(lease.task.clone()));
                Joined::Reattached(lease)
            }
            Err(refusal) => Joined::Refused { lease, refusal },
        }
    }

    fn reattach(&mut self, held: &LeaseId, worker: &WorkerId, now: Now) -> Result<(), Refusal> {
        let config = self.config;
        let record = self.record_mut(&held.task)?;
        if held.worker != *worker {
            return Err(Refusal::StaleLease {
                lease: held.clone(),
                newest: record.attempt,
            });
        }
        record.live_mut(held)?.renew(&config, now);
        Ok(())
    }

    /// A worker is heard of, with the lease that it works under and how far it is.
    ///
    /// Only a heartbeat that names the lease renews it, so that a task whose assignment never arrived,
    /// or which the worker has dropped, is given away although the worker lives.
    pub fn heartbeat(
        &mut self,
        worker: &WorkerId,
        progress: Option<(LeaseId, Progress)>,
        now: Now,
    ) -> Result<HeartbeatReply, UnknownWorker> {
        let known = self
            .workers
            .get_mut(worker)
            .filter(|worker| worker.connected)
            .ok_or_else(|| UnknownWorker(worker.clone()))?;
        known.last_seen = now;
        let Some((lease, progress)) = progress else {
            if known.state == WorkerState::Lost {
                known.state = known.free_state();
            }
            return Ok(HeartbeatReply::Accepted);
        };
        Ok(match self.renew(worker, &lease, progress, now) {
            Ok(()) => HeartbeatReply::Accepted,
            Err(refusal) => HeartbeatReply::Refused(refusal),
        })
    }

    fn renew(
        &mut self,
        worker: &WorkerId,
        id: &LeaseId,
        progress: Progress,
        now: Now,
    ) -> Result<(), Refusal> {
        let config = self.config;
        let record = self.record_mut(&id.task)?;
        if id.worker != *worker {
            return Err(Refusal::StaleLease {
                lease: id.clone(),
                newest: record.attempt,
            });
        }
        let lease = record.live_mut(id)?;
        lease.renew(&config, now);
        // Speed and running means change without the task getting anywhere.
        let place = |p: &Progress| (p.phase, p.epoch, p.step);
        if lease.progress.as_ref().map(place) != Some(place(&progress)) {
            lease.last_progress_at = now;
        }
        lease.progress = Some(progress);
        Ok(())
    }

    /// A worker's connection has ended. Its lease lasts for the grace time, or, without a spare worker, until it
    /// expires: the worker may join again.
    pub fn disconnected(&mut self, worker: &WorkerId, now: Now) {
        let grace = now + self.config.reattach_grace;
        let lease = self.lease_of(worker);
        let Some(known) = self.workers.get_mut(worker) else {
            return;
        };
        known.connected = false;
        match lease {
            Some(id) => {
                if let Ok(lease) = self.record_mut(&id.task).and_then(|r| r.live_mut(&id)) {
                    lease.reclaimable_at = Some(grace);
                }
            }
            None => known.state = WorkerState::Lost,
        }
    }

    /// A worker has closed its connection, as it does when it exits. One that holds no lease is not lost: it is no more.
    pub fn left(&mut self, worker: &WorkerId, now: Now) {
        self.disconnected(worker, now);
        if !self.holds_lease(worker) {
            self.workers.remove(worker);
        }
    }

    /// A worker has gone for good, and with it its lease.
    pub fn worker_lost(&mut self, worker: &WorkerId, now: Now) {
        if let Some(lease) = self.lease_of(worker) {
            let ending = Ending::Lost("its worker was lost".into());
            self.end_lease(&lease, ending, now);
        }
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.connected = false;
            worker.state = WorkerState::Lost;
        }
    }

    /// A worker is to hand its task back and leave: it gets no more tasks.
    pub fn drain(&mut self, worker: &WorkerId) -> Result<(), UnknownWorker> {
        let known = self
            .workers
            .get_mut(worker)
            .filter(|known| known.connected)
            .ok_or_else(|| UnknownWorker(worker.clone()))?;
        known.draining = true;
        if known.state == WorkerState::Idle {
            known.state = WorkerState::Draining;
        }
        Ok(())
    }

    /// Whether a worker holds a live lease, be it connected or not.
    #[must_use]
    pub fn holds_lease(&self, worker: &WorkerId) -> bool {
        self.leases_of(worker).next().is_some()
    }

    /// The live lease that a worker holds, whether it has joined or not.
    pub(super) fn lease_of(&self, worker: &WorkerId) -> Option<LeaseId> {
        self.leases_of(worker).next().map(|lease| lease.id.clone())
    }

    fn leases_of<'a>(&'a self, worker: &'a WorkerId) -> impl Iterator<Item = &'a Lease> {
        let leases = self.records().filter_map(TaskRecord::lease);
        leases.filter(|lease| lease.ending.is_none() && lease.id.worker == *worker)
    }

    pub(super) fn set_state(&mut self, worker: &WorkerId, state: WorkerState) {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.state = state;
        }
    }
}
