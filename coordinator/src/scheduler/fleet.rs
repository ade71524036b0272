//! Workers join, are heard of, and go.

use quartet_shared::ids::WorkerId;
use quartet_shared::progress::Progress;
use quartet_shared::task::LeaseId;

use super::Scheduler;
use super::config::Now;
use super::refusal::{Refusal, UnknownWorker};
use super::state::{Ending, Worker, WorkerInfo, WorkerState};

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
    /// It keeps a lease that is live. After a restart of the coordinator, which knows of no leases, it
    /// also keeps one whose task is pending and has no newer attempt. A lease that the scheduler thinks
    /// it holds but that it does not name is lost.
    pub fn join(&mut self, info: WorkerInfo, held: Option<LeaseId>, now: Now) -> Joined {
        let id = info.id.clone();
        if let Some(lease) = self.lease_of(&id)
            && held.as_ref() != Some(&lease)
        {
            let ending = Ending::Lost("its worker came back without it".into());
            self.end_lease(&lease, ending, now);
        }
        let draining = self.workers.get(&id).is_some_and(|worker| worker.draining);
        let state = WorkerState::Idle;
        let mut worker = Worker {
            info,
            state,
            last_seen: now,
            connected: true,
            draining,
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
        record.note(held.attempt);
        if held.worker != *worker {
            return Err(Refusal::StaleLease {
                lease: held.clone(),
                newest: record.attempt,
            });
        }
        if record.is_adoptable(held) {
            record.grant(held.clone(), &config, now);
            return Ok(());
        }
        record.live_mut(held)?.expires_at = now + config.lease;
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
        let expires_at = now + self.config.lease;
        let record = self.record_mut(&id.task)?;
        if id.worker != *worker {
            return Err(Refusal::StaleLease {
                lease: id.clone(),
                newest: record.attempt,
            });
        }
        let lease = record.live_mut(id)?;
        lease.expires_at = expires_at;
        // Speed and running means change without the task getting anywhere.
        let place = |p: &Progress| (p.phase, p.epoch, p.step);
        if lease.progress.as_ref().map(place) != Some(place(&progress)) {
            lease.last_progress_at = now;
        }
        lease.progress = Some(progress);
        Ok(())
    }

    /// A worker's connection has ended. Its lease lasts for the grace time, in which it may join again.
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
                    lease.expires_at = lease.expires_at.min(grace);
                }
            }
            None => known.state = WorkerState::Lost,
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

    /// The live lease that a worker holds.
    pub(super) fn lease_of(&self, worker: &WorkerId) -> Option<LeaseId> {
        let WorkerState::Busy(task) = &self.workers.get(worker)?.state else {
            return None;
        };
        self.record(task)
            .ok()?
            .lease()
            .map(|lease| lease.id.clone())
    }

    pub(super) fn set_state(&mut self, worker: &WorkerId, state: WorkerState) {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.state = state;
        }
    }
}
