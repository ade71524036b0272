//! The model of what one coordinator process knows: leases, failure counts and workers.

use super::*;

/// The model's view of a live lease.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) id: LeaseId,
    pub(super) expires_at: Now,
    pub(super) moved_at: Now,
    /// The value of `moved_at` for which a stall was reported.
    pub(super) stall_reported: Option<Now>,
    pub(super) step: Option<u32>,
    pub(super) pinned: bool,
    /// How it ends once it is no longer pinned.
    pub(super) closing: Option<End>,
    /// When a spare may take the task over: its worker is not connected.
    pub(super) reclaim_at: Option<Now>,
    /// Granted by an older coordinator to a worker that has not been heard of since.
    pub(super) restored: bool,
}

impl Live {
    pub(super) fn new(id: LeaseId, now: Now) -> Self {
        Self {
            id,
            expires_at: now + config().lease,
            moved_at: now,
            stall_reported: None,
            step: None,
            pinned: true,
            closing: None,
            reclaim_at: None,
            restored: false,
        }
    }

    pub(super) fn renew(&mut self, now: Now) {
        self.expires_at = now + config().lease;
        (self.reclaim_at, self.restored) = (None, false);
    }
}

/// How a lease ended without a result.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum End {
    Lost,
    Failed { is_repeatable: bool },
    Uncounted,
}

/// What one coordinator process remembers of a task.
#[derive(Clone, Default)]
pub(super) struct Memory {
    pub(super) live: Option<Live>,
    pub(super) newest: Attempt,
    pub(super) losses: u32,
    pub(super) failures: u32,
    pub(super) repeatable: u32,
    pub(super) failed_on: BTreeSet<WorkerId>,
    pub(super) not_before: Now,
}

#[derive(Clone, Default)]
pub(super) struct Member {
    pub(super) connected: bool,
    pub(super) draining: bool,
    /// Whether it was asked to exit.
    pub(super) sent_home: bool,
    /// The lease that the worker believes it holds.
    pub(super) held: Option<LeaseId>,
    /// The tasks that failed on it since its last success.
    pub(super) failed: BTreeSet<Task>,
}

impl World {
    /// Sets the memory of a coordinator that has just started.
    pub(super) fn start_memory(&mut self) {
        (self.now, self.earliest_reclaim) = (Now::default(), Now::default());
        let all_trained = self.all_trained();
        let recall = |(task, stored): (&Task, &Stored)| {
            let open = stored.completion.is_none() && (*task != Task::Evaluate || all_trained);
            let held = open && !stored.closed;
            let live = stored.lease.clone().filter(|_| held).map(|id| Live {
                reclaim_at: Some(Now::default() + config().recovery_grace),
                restored: true,
                pinned: false,
                ..Live::new(id, Now::default())
            });
            let newest = stored
                .lease
                .as_ref()
                .map_or(Attempt(0), |lease| lease.attempt);
            let memory = Memory {
                live,
                newest,
                ..Memory::default()
            };
            (task.clone(), memory)
        };
        self.memory = self.store.iter().map(recall).collect();
        for member in self.members.values_mut() {
            (member.connected, member.draining, member.sent_home) = (false, false, false);
            member.failed.clear();
        }
    }

    /// Whether the lease is live in the model: granted, not ended, not about to end.
    pub(super) fn is_live(&self, lease: &LeaseId) -> bool {
        let live = self.memory[&lease.task].live.as_ref();
        live.is_some_and(|live| live.id == *lease && live.closing.is_none())
    }

    pub(super) fn live(&mut self, lease: &LeaseId) -> &mut Live {
        self.memory_of(lease).live.as_mut().unwrap()
    }

    pub(super) fn memory_of(&mut self, lease: &LeaseId) -> &mut Memory {
        self.memory.get_mut(&lease.task).unwrap()
    }

    pub(super) fn lease_of(&self, worker: &WorkerId) -> Option<LeaseId> {
        let mut live = self
            .memory
            .values()
            .filter_map(|memory| memory.live.as_ref());
        live.find(|live| live.id.worker == *worker && live.closing.is_none())
            .map(|live| live.id.clone())
    }

    pub(super) fn granted(&mut self, lease: &LeaseId) {
        let now = self.now;
        let memory = self.memory_of(lease);
        assert!(
            memory.live.is_none(),
            "exclusive: {lease} beside {:?}",
            memory.live.as_ref().map(|l| &l.id)
        );
        memory.newest = lease.attempt;
        memory.live = Some(Live::new(lease.clone(), now));
    }

    /// Ends the live lease without a result. A pinned lease ends when it is no longer pinned.
    pub(super) fn end(&mut self, lease: &LeaseId, end: End) {
        let memory = self.memory_of(lease);
        let live = memory.live.as_mut().unwrap();
        if live.pinned {
            live.closing.get_or_insert(end);
            return;
        }
        memory.live = None;
        match end {
            End::Lost => memory.losses += 1,
            End::Failed { is_repeatable } => {
                memory.failures += 1;
                memory.repeatable += u32::from(is_repeatable);
                memory.failed_on.insert(lease.worker.clone());
            }
            End::Uncounted => {}
        }
    }

    pub(super) fn unpin(&mut self, lease: &LeaseId) {
        let live = self.live(lease);
        live.pinned = false;
        if let Some(end) = live.closing.take() {
            self.end(lease, end);
        }
    }
}
