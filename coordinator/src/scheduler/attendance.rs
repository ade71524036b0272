//! How workers come, are heard of, and go.

use quartet_shared::event::Occurrence;
use quartet_shared::gpu::GpuUse;
use quartet_shared::ids::WorkerId;
use quartet_shared::progress::Progress;
use quartet_shared::secret::SecretHash;
use quartet_shared::task::LeaseId;

use super::Scheduler;
use super::lease::{Ending, Lease};
use super::refusal::{Refusal, UnknownWorker};
use super::task::TaskRecord;
use super::time::Now;
use super::worker::{HeartbeatReply, Joined, Worker, WorkerInfo, WorkerStage};

/// Most workers that are gone and shown as lost.
const MAX_LOST: usize = 1000;

impl Scheduler {
    /// A worker joins, or joins again on a new connection with the lease that it still works under.
    ///
    /// It keeps a lease that is live. A lease that the scheduler thinks it holds but that it does not
    /// name is lost. One that an older coordinator granted may have ended without a record of it, and
    /// is not counted.
    pub fn join(&mut self, info: WorkerInfo, held: Option<LeaseId>, now: Now) -> Joined {
        let id = info.id.clone();
        // At most one, unless older coordinators granted them, which do not record how leases end.
        let others: Vec<_> = self
            .leases_of(&id)
            .filter(|lease| held.as_ref() != Some(&lease.id))
            .map(|lease| (lease.id.clone(), lease.is_restored()))
            .collect();
        for (lease, restored) in others {
            let ending = match restored {
                true => Ending::HandedBack,
                false => Ending::Lost(self.loss(&lease, "came back without it")),
            };
            self.end_lease(&lease, ending, now);
        }
        // A worker that was started again in the place of one that is gone has its name and a new id.
        self.workers.retain(|_, known| {
            let gone = known.stage == WorkerStage::Lost && !known.connected;
            !gone || known.info.name != info.name || known.info.id == id
        });
        let known = self.workers.remove(&id);
        let is_new = known.is_none();
        let device = info.device.clone();
        let number = self.free_number(&info.name, known.as_ref().map(|known| known.number));
        let (draining, sent_home, failed) = known.map_or_else(Default::default, |known| {
            (known.drains_again(), known.sent_home, known.failed)
        });
        let mut worker = Worker {
            info,
            stage: WorkerStage::Idle,
            last_seen: now,
            connected: true,
            gpu: None,
            number,
            draining,
            sent_home,
            failed,
        };
        // A lease that the worker keeps is set below.
        worker.set_free();
        self.workers.insert(id.clone(), worker);
        let joined = match held {
            Some(lease) => self.take_back(&id, lease, now),
            None => Joined::Free,
        };
        self.note_of(&id, |worker| match &joined {
            Joined::Reattached(LeaseId { task, .. }) => Occurrence::WorkerReturned {
                worker,
                task: Some(task.clone()),
            },
            _ if is_new => Occurrence::WorkerJoined { worker, device },
            _ => Occurrence::WorkerReturned { worker, task: None },
        });
        joined
    }

    /// A worker that has joined goes on under the lease that it names, if that is live.
    fn take_back(&mut self, id: &WorkerId, lease: LeaseId, now: Now) -> Joined {
        let config = self.config;
        match self.lease_held_by(id, &lease) {
            Ok(live) => {
                live.renew(&config, now);
                self.set_stage(id, WorkerStage::Busy(lease.task.clone()));
                Joined::Reattached(lease)
            }
            Err(refusal) => {
                // It is busy with what it lost until a heartbeat says that it is not.
                self.set_stage(id, WorkerStage::Lost);
                Joined::Refused { lease, refusal }
            }
        }
    }

    /// The hash of the secret that a worker has to prove itself with, if it is known.
    #[must_use]
    pub fn secret_of(&self, worker: &WorkerId) -> Option<&SecretHash> {
        match self.workers.get(worker) {
            Some(known) => Some(&known.info.secret),
            None => {
                let leases = self.records().filter_map(TaskRecord::lease);
                let mut held = leases.filter(|lease| lease.id.worker == *worker);
                held.find_map(Lease::recorded_secret)
            }
        }
    }

    /// The live lease that a worker names as its own.
    fn lease_held_by(&mut self, worker: &WorkerId, id: &LeaseId) -> Result<&mut Lease, Refusal> {
        let record = self.record_mut(&id.task)?;
        if id.worker != *worker {
            return Err(record.stale(id));
        }
        record.live_mut(id)
    }

    /// A worker is heard of, with the lease that it works under and its progress.
    ///
    /// Only a heartbeat that names the lease renews it, so that a task whose assignment never arrived,
    /// or which the worker has dropped, is given away although the worker lives.
    pub fn heartbeat(
        &mut self,
        worker: &WorkerId,
        progress: Option<(LeaseId, Progress)>,
        now: Now,
    ) -> Result<HeartbeatReply, UnknownWorker> {
        let known = self.connected_mut(worker)?;
        known.last_seen = now;
        let Some((lease, progress)) = progress else {
            if known.stage == WorkerStage::Lost {
                known.set_free();
                self.note_of(worker, |worker| Occurrence::WorkerReturned {
                    worker,
                    task: None,
                });
            }
            return Ok(HeartbeatReply::Accepted);
        };
        let config = self.config;
        Ok(match self.lease_held_by(worker, &lease) {
            Ok(lease) => {
                lease.report(progress, &config, now);
                HeartbeatReply::Accepted
            }
            Err(refusal) => HeartbeatReply::Refused(refusal),
        })
    }

    /// How a worker's GPU does. Nothing follows from it.
    pub fn note_gpu(&mut self, worker: &WorkerId, gpu: Option<GpuUse>) {
        if let Ok(known) = self.connected_mut(worker) {
            known.gpu = gpu;
        }
    }

    /// The coordinator had not run for a while, which the time that it passes in leaves out. Workers whose
    /// connections ended meanwhile have as long to come back as after a start of the coordinator.
    pub fn resumed(&mut self, now: Now) {
        self.earliest_reclaim = now + self.config.recovery_grace;
    }

    /// A worker's connection has ended. Its lease lasts for the grace time, or, without a spare worker,
    /// until it expires: the worker may join again.
    fn disconnect(&mut self, worker: &WorkerId, now: Now) {
        let (config, earliest) = (self.config, self.earliest_reclaim);
        let lease = self.lease_of(worker);
        let Some(known) = self.workers.get_mut(worker) else {
            return;
        };
        known.connected = false;
        match lease {
            Some(id) => {
                if let Ok(lease) = self.record_mut(&id.task).and_then(|r| r.live_mut(&id)) {
                    lease.disconnect(&config, earliest, now);
                }
            }
            None => {
                known.stage = WorkerStage::Lost;
                self.forget_some();
            }
        }
    }

    /// A worker's connection has ended otherwise than by its exit.
    pub fn disconnected(&mut self, worker: &WorkerId, now: Now) {
        let was_lost = self
            .workers
            .get(worker)
            .is_none_or(|w| w.stage == WorkerStage::Lost);
        self.disconnect(worker, now);
        match self.holds_lease(worker) {
            true => self.note_of(worker, |worker| Occurrence::WorkerDisconnected { worker }),
            false if was_lost => {}
            false => self.note_of(worker, |worker| Occurrence::WorkerLost { worker }),
        }
    }

    /// Forgets the lost worker that was heard of least recently, if there are too many.
    fn forget_some(&mut self) {
        let gone = |worker: &&Worker| worker.stage == WorkerStage::Lost && !worker.connected;
        if self.workers.values().filter(gone).count() > MAX_LOST {
            let oldest = self
                .workers
                .values()
                .filter(gone)
                .min_by_key(|w| w.last_seen);
            if let Some(id) = oldest.map(|worker| worker.info.id.clone()) {
                self.workers.remove(&id);
            }
        }
    }

    /// A worker has closed its connection, as it does when it exits. Without a lease it is forgotten
    /// instead of lost.
    pub fn left(&mut self, worker: &WorkerId, now: Now) {
        self.disconnect(worker, now);
        self.note_of(worker, |worker| Occurrence::WorkerLeft { worker });
        if !self.holds_lease(worker) {
            self.workers.remove(worker);
        }
    }

    /// A worker has gone for good, and with it its lease: nobody waits for it to come back.
    pub fn worker_lost(&mut self, worker: &WorkerId, how: &str, now: Now) {
        if let Some(lease) = self.lease_of(worker) {
            let ending = Ending::Lost(self.loss(&lease, &format!("was lost: {how}")));
            self.end_lease(&lease, ending, now);
        } else if self.workers.get(worker).is_some_and(|w| w.connected) {
            self.note_of(worker, |worker| Occurrence::WorkerLost { worker });
        }
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.connected = false;
            worker.stage = WorkerStage::Lost;
        }
    }

    pub(super) fn connected_mut(
        &mut self,
        worker: &WorkerId,
    ) -> Result<&mut Worker, UnknownWorker> {
        let known = self.workers.get_mut(worker);
        known
            .filter(|known| known.connected)
            .ok_or_else(|| UnknownWorker(worker.clone()))
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
        leases.filter(|lease| lease.is_live() && lease.id.worker == *worker)
    }

    pub(super) fn set_stage(&mut self, worker: &WorkerId, stage: WorkerStage) {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.stage = stage;
        }
    }
}
