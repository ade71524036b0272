//! What happens to workers, what the driver decides, and what the scheduler must answer.

use super::*;
use quartet_shared::provenance::Provenance;
use quartet_shared::secret::SecretHash;

impl World {
    pub(in super::super) fn join(&mut self, worker: usize, held: Option<Pick>) {
        let held = held.and_then(|pick| self.pick(pick));
        self.join_with(worker_id(worker), held);
    }

    pub(in super::super) fn join_again(&mut self, worker: usize) {
        let id = worker_id(worker);
        let held = self.members.get(&id).and_then(|member| member.held.clone());
        self.join_with(id, held);
    }

    pub(super) fn join_with(&mut self, id: WorkerId, held: Option<LeaseId>) {
        let live = self.memory.values().filter_map(|m| m.live.as_ref());
        let others: Vec<_> = live
            .filter(|live| live.id.worker == id && live.closing.is_none())
            .filter(|live| held.as_ref() != Some(&live.id))
            .map(|live| live.id.clone())
            .collect();
        for lease in others {
            let restored = self.live(&lease).restored;
            self.end(&lease, if restored { End::Uncounted } else { End::Lost });
        }
        let info = WorkerInfo {
            id: id.clone(),
            name: id.to_string(),
            device: "none".into(),
            secret: SecretHash::default(),
            provenance: Provenance::default(),
            stays: stays(&id),
            precisions: Vec::new(),
        };
        let known = self.scheduler.workers().any(|worker| worker.info.id == id);
        let joined = self.scheduler.join(info, held.clone(), self.now);
        let member = self.members.entry(id.clone()).or_default();
        member.connected = true;
        member.sent_home &= known;
        member.draining &= known && (member.sent_home || !stays(&id));
        if !known {
            member.failed.clear();
        }
        member.held = None;
        let Some(held) = held else {
            return assert_eq!(joined, Joined::Free);
        };
        let mine = held.worker == id;
        let reattached = matches!(joined, Joined::Reattached(_));
        if mine && self.is_live(&held) {
            assert!(reattached, "re-attach: {held} was live: {joined:?}");
            let now = self.now;
            self.live(&held).renew(now);
            self.members.get_mut(&id).unwrap().held = Some(held);
        } else {
            assert!(!reattached, "fencing: {held} joined by {id} was stale");
        }
    }

    pub(in super::super) fn heartbeat(&mut self, worker: usize, names: Option<Pick>, step: u32) {
        let names = names.and_then(|pick| self.pick(pick));
        self.beat(&worker_id(worker), names, step);
    }

    pub(in super::super) fn heartbeat_own(&mut self, worker: usize, step: u32) {
        let id = worker_id(worker);
        let held = self.members.get(&id).and_then(|member| member.held.clone());
        self.beat(&id, held, step);
    }

    pub(super) fn beat(&mut self, id: &WorkerId, names: Option<LeaseId>, step: u32) {
        let named = names.clone().map(|lease| (lease, progress(step)));
        let reply = self.scheduler.heartbeat(id, named, self.now);
        let connected = self.members.get(id).is_some_and(|member| member.connected);
        let Ok(reply) = reply else {
            // A worker that is lost for long is forgotten, and has to join again.
            let seen = self.scheduler.workers().any(|worker| worker.info.id == *id);
            return assert!(!connected || !seen, "membership: {id} is connected");
        };
        assert!(connected, "membership: {id} is not connected");
        let Some(lease) = names else { return };
        let good = lease.worker == *id && self.is_live(&lease);
        assert_eq!(
            reply.refused().is_none(),
            good,
            "fencing: heartbeat of {id} names {lease}"
        );
        if good {
            let now = self.now;
            let live = self.live(&lease);
            live.renew(now);
            if live.step.replace(step) != Some(step) {
                live.moved_at = now;
            }
        } else if self.members[id].held.as_ref() == Some(&lease) {
            self.members.get_mut(id).unwrap().held = None;
        }
    }

    pub(in super::super) fn drain(&mut self, worker: usize, for_good: bool) {
        let id = worker_id(worker);
        let cause = match for_good {
            true => DrainCause::SentHome,
            false => DrainCause::CoordinatorStops,
        };
        let drained = self.scheduler.drain(&id, cause);
        let member = self.members.get_mut(&id);
        let Some(member) = member.filter(|member| member.connected) else {
            return assert!(drained.is_err(), "membership: {id} drains");
        };
        member.draining |= drained.is_ok();
        member.sent_home |= drained.is_ok() && for_good;
    }

    pub(in super::super) fn fail(&mut self, pick: Pick, is_repeatable: bool) {
        let Some(lease) = self.pick(pick) else { return };
        let failure = Failure {
            reason: "a test".into(),
            is_repeatable,
        };
        let decision = self.scheduler.fail(&lease, failure, self.now);
        assert_eq!(
            decision.is_ok(),
            self.is_live(&lease),
            "fencing: {lease} fails: {decision:?}"
        );
        let Ok(decision) = decision else { return };
        if let Some(member) = self.members.get_mut(&lease.worker) {
            member.failed.insert(lease.task.clone());
            member.held.take_if(|held| *held == lease);
        }
        let pinned = self.live(&lease).pinned;
        self.end(&lease, End::Failed { is_repeatable });
        // A commit in progress may yet reset the failure counts.
        if pinned {
            return;
        }
        let spent = self.is_failed(&lease.task);
        assert_eq!(decision == FailDecision::Final, spent, "bounded: {lease}");
        if let FailDecision::Retry { not_before, .. } = decision {
            self.memory_of(&lease).not_before = not_before;
        }
    }

    pub(in super::super) fn release(&mut self, pick: Pick) {
        let Some(lease) = self.pick(pick) else { return };
        let released = self.scheduler.release(&lease, self.now);
        assert_eq!(
            released.is_ok(),
            self.is_live(&lease),
            "fencing: {lease} is handed back"
        );
        if released.is_ok() {
            self.end(&lease, End::Uncounted);
            let known = self.scheduler.workers().any(|w| w.info.id == lease.worker);
            if let Some(member) = self.members.get_mut(&lease.worker).filter(|_| known) {
                (member.held, member.draining) = (None, true);
            }
        }
    }

    pub(in super::super) fn disconnect(&mut self, worker: usize) {
        self.disconnect_id(&worker_id(worker));
    }

    pub(super) fn disconnect_id(&mut self, id: &WorkerId) {
        self.scheduler.disconnected(id, self.now);
        let grace = (self.now + config().reattach_grace).max(self.earliest_reclaim);
        let known = self.scheduler.workers().any(|worker| worker.info.id == *id);
        if let Some(lease) = self.lease_of(id).filter(|_| known) {
            self.live(&lease).reclaim_at = Some(grace);
        }
        if let Some(member) = self.members.get_mut(id) {
            member.connected = false;
        }
    }

    pub(in super::super) fn lost(&mut self, worker: usize) {
        let id = worker_id(worker);
        self.scheduler.worker_lost(&id, "it ended", self.now);
        if let Some(lease) = self.lease_of(&id) {
            self.end(&lease, End::Lost);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.connected = false;
        }
    }

    /// What the shell's driver does after every fact.
    pub(in super::super) fn decide(&mut self, slow: bool) {
        self.expire();
        self.report_stalls();
        for grant in self.scheduler.assign(self.now) {
            self.check_grant(&grant);
            self.granted(&grant.lease);
            self.given.push(grant.lease.clone());
            self.tickets.push(Ticket::Grant(grant.lease));
            if !slow {
                let grants = self.tickets.iter();
                let grants = grants.filter(|ticket| matches!(ticket, Ticket::Grant(_)));
                self.end_grant(grants.count() - 1, true);
            }
        }
        self.check_reclaimed();
        if let Some(deadline) = self.scheduler.next_deadline(self.now) {
            assert!(
                deadline > self.now,
                "deadlines: {deadline:?} is not after {:?}",
                self.now
            );
        }
    }
}

/// Every second worker stays when a coordinator needs it no longer.
fn stays(worker: &WorkerId) -> bool {
    worker.as_str().ends_with(['1', '3', '5', '7', '9'])
}
