//! What happens to the fleet, and what the scheduler must answer.

use super::*;

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
        if let Some(lease) = self
            .lease_of(&id)
            .filter(|lease| held.as_ref() != Some(lease))
        {
            self.end(&lease, |memory| memory.losses += 1);
        }
        let info = WorkerInfo {
            id: id.clone(),
            name: id.to_string(),
            device: "none".into(),
        };
        let known = self.scheduler.workers().any(|worker| worker.info.id == id);
        let joined = self.scheduler.join(info, held.clone(), self.now);
        let member = self.members.entry(id.clone()).or_default();
        member.connected = true;
        member.draining &= known;
        member.held = None;
        let Some(held) = held else {
            return assert_eq!(joined, Joined::Free);
        };
        let mine = held.worker == id;
        let reattached = matches!(joined, Joined::Reattached(_));
        if mine && self.is_live(&held) {
            assert!(reattached, "re-attach: {held} was live: {joined:?}");
            let expires_at = self.now + config().lease;
            self.live(&held).expires_at = expires_at;
            self.members.get_mut(&id).unwrap().held = Some(held);
        } else if mine && self.is_adoptable(&held) {
            assert!(
                reattached,
                "re-attach: {held} survives a restart: {joined:?}"
            );
            self.granted(&held);
        } else {
            assert!(!reattached, "fencing: {held} joined by {id} was stale");
            let memory = self.memory.get_mut(&held.task).unwrap();
            memory.newest = memory.newest.max(held.attempt);
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
            live.expires_at = now + config().lease;
            if live.step.replace(step) != Some(step) {
                live.moved_at = now;
            }
        } else if self.members[id].held.as_ref() == Some(&lease) {
            self.members.get_mut(id).unwrap().held = None;
        }
    }

    fn pin(&mut self, lease: &LeaseId) {
        let now = self.now;
        let live = self.live(lease);
        live.pinned = true;
        live.moved_at = now;
        live.expires_at = live.expires_at.max(now + config().lease);
    }

    pub(in super::super) fn begin_commit(&mut self, pick: Pick, offset: u32) {
        let Some(lease) = self.pick(pick) else { return };
        let last = self.last_epoch(&lease.task);
        let epoch = Epoch(last.0 + offset);
        let ticket = self.scheduler.begin_commit(&lease, epoch, self.now);
        let good = self.is_live(&lease)
            && !self.live(&lease).pinned
            && lease.task != Task::Evaluate
            && offset == 1
            && epoch.0 <= EPOCHS;
        assert_eq!(
            ticket.is_ok(),
            good,
            "commit: epoch {epoch} after {last} by {lease}: {ticket:?}"
        );
        if let Ok(ticket) = ticket {
            self.pin(&lease);
            self.tickets.push(Ticket::Commit(ticket, lease, epoch));
        }
    }

    pub(in super::super) fn end_commit(&mut self, index: usize, accuracy: Option<u8>) {
        let is_commit = |ticket: &Ticket| matches!(ticket, Ticket::Commit(..));
        let Some(Ticket::Commit(ticket, lease, epoch)) = self.take_ticket(index, is_commit) else {
            return;
        };
        let before = self.store[&lease.task].committed;
        let committed = accuracy.map(|accuracy| epoch_result(before, epoch, accuracy));
        self.scheduler.end_commit(ticket, committed, self.now);
        if let Some(committed) = committed {
            self.store_epoch(&lease, epoch, committed);
            let now = self.now;
            self.live(&lease).moved_at = now;
        }
        self.unpin(&lease);
    }

    fn take_ticket(&mut self, index: usize, wanted: impl Fn(&Ticket) -> bool) -> Option<Ticket> {
        let found: Vec<_> = (0..self.tickets.len())
            .filter(|&i| wanted(&self.tickets[i]))
            .collect();
        (!found.is_empty()).then(|| self.tickets.remove(found[index % found.len()]))
    }

    pub(in super::super) fn begin_complete(&mut self, pick: Pick) {
        let Some(lease) = self.pick(pick) else { return };
        let ticket = self.scheduler.begin_complete(&lease, self.now);
        let stored = &self.store[&lease.task];
        if stored.completion.is_some() {
            let memory = &self.memory[&lease.task];
            let same = match (memory.issued, &lease.task) {
                (true, _) => stored.completed_by.as_ref() == Some(&lease),
                (false, Task::Train(_)) => lease.attempt == stored.attempt,
                (false, Task::Evaluate) => lease.attempt >= memory.newest,
            };
            assert_eq!(ticket.is_ok(), same, "fencing: {lease} completes again");
            return assert!(
                !matches!(ticket, Ok(Some(_))),
                "once: {lease} completes again"
            );
        }
        let trained = lease.task == Task::Evaluate || self.is_trained(&lease.task);
        let good = self.is_live(&lease) && !self.live(&lease).pinned && trained;
        assert_eq!(ticket.is_ok(), good, "complete: {lease}: {ticket:?}");
        if let Ok(ticket) = ticket {
            self.pin(&lease);
            self.tickets.push(Ticket::Complete(
                ticket.expect("the task is not complete"),
                lease,
            ));
        }
    }

    pub(in super::super) fn end_complete(&mut self, index: usize, written: bool) {
        let is_complete = |ticket: &Ticket| matches!(ticket, Ticket::Complete(..));
        let Some(Ticket::Complete(ticket, lease)) = self.take_ticket(index, is_complete) else {
            return;
        };
        if written {
            self.store_completion(&lease);
        }
        let completion = self.store[&lease.task].completion;
        self.scheduler.end_complete(ticket, completion, self.now);
        if written {
            self.memory.get_mut(&lease.task).unwrap().live = None;
            let held = &mut self.members.get_mut(&lease.worker).unwrap().held;
            held.take_if(|held| *held == lease);
        } else {
            self.unpin(&lease);
        }
    }

    pub(in super::super) fn work(&mut self, pick: Pick, accuracy: u8) {
        let Some(lease) = self.pick(pick) else { return };
        let index = self
            .given
            .iter()
            .position(|given| *given == lease)
            .unwrap_or(0);
        if lease.task != Task::Evaluate && !self.is_trained(&lease.task) {
            self.begin_commit(Pick::Any(index), 1);
            self.end_commit(self.tickets.len(), Some(accuracy));
        }
        if lease.task == Task::Evaluate || self.is_trained(&lease.task) {
            self.begin_complete(Pick::Any(index));
            self.end_complete(self.tickets.len(), true);
        }
    }

    pub(in super::super) fn fail(&mut self, pick: Pick) {
        let Some(lease) = self.pick(pick) else { return };
        let decision = self.scheduler.fail(&lease, "a test".into(), self.now);
        assert_eq!(
            decision.is_ok(),
            self.is_live(&lease),
            "fencing: {lease} fails: {decision:?}"
        );
        let Ok(decision) = decision else { return };
        self.end(&lease, |memory| memory.failures += 1);
        let spent = self.memory[&lease.task].failures > config().max_failures;
        assert_eq!(decision == FailDecision::Final, spent, "bounded: {lease}");
        if let FailDecision::Retry { not_before, .. } = decision {
            self.memory.get_mut(&lease.task).unwrap().not_before = not_before;
        }
        self.members
            .get_mut(&lease.worker)
            .unwrap()
            .held
            .take_if(|held| *held == lease);
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
            self.end(&lease, |_| ());
            let member = self.members.get_mut(&lease.worker).unwrap();
            (member.held, member.draining) = (None, true);
        }
    }

    pub(in super::super) fn disconnect(&mut self, worker: usize) {
        self.disconnect_id(&worker_id(worker));
    }

    pub(super) fn disconnect_id(&mut self, id: &WorkerId) {
        self.scheduler.disconnected(id, self.now);
        let grace = self.now + config().reattach_grace;
        if let Some(lease) = self.lease_of(id) {
            let live = self.live(&lease);
            live.expires_at = live.expires_at.min(grace);
        }
        if let Some(member) = self.members.get_mut(id) {
            member.connected = false;
        }
    }

    pub(in super::super) fn lost(&mut self, worker: usize) {
        let id = worker_id(worker);
        self.scheduler.worker_lost(&id, self.now);
        if let Some(lease) = self.lease_of(&id) {
            self.end(&lease, |memory| memory.losses += 1);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.connected = false;
        }
    }

    /// What the shell's driver does after every fact.
    pub(in super::super) fn decide(&mut self) {
        self.expire();
        for assignment in self.scheduler.assign(self.now) {
            self.check_assignment(&assignment);
            self.granted(&assignment.lease);
            self.given.push(assignment.lease);
        }
        if let Some(deadline) = self.scheduler.next_deadline() {
            assert!(
                deadline > self.now,
                "deadlines: {deadline:?} is not after {:?}",
                self.now
            );
        }
    }
}
