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
        };
        let known = self.scheduler.workers().any(|worker| worker.info.id == id);
        let joined = self.scheduler.join(info, held.clone(), self.now);
        let member = self.members.entry(id.clone()).or_default();
        member.connected = true;
        member.draining &= known;
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

    fn pin(&mut self, lease: &LeaseId) {
        let now = self.now;
        let live = self.live(lease);
        live.pinned = true;
        live.restored = false;
        live.moved_at = now;
        live.expires_at = live.expires_at.max(now + config().lease);
    }

    pub(in super::super) fn begin_commit(&mut self, pick: Pick, offset: u32) {
        let Some(lease) = self.pick(pick) else { return };
        let last = self.last_epoch(&lease.task);
        let position = Position::end_of(Epoch(last.0 + offset));
        self.begin(lease, position, offset == 1 && position.epoch.0 <= EPOCHS);
    }

    pub(in super::super) fn begin_step(&mut self, pick: Pick, offset: u32, step: u32) {
        let Some(lease) = self.pick(pick) else { return };
        let stored = self.store[&lease.task].position();
        let epoch = Epoch(stored.epoch.0 + offset);
        let position = Position { epoch, step };
        self.begin(
            lease,
            position,
            offset == 0 && step > stored.step && epoch.0 < EPOCHS,
        );
    }

    fn begin(&mut self, lease: LeaseId, position: Position, next: bool) {
        let ticket = self.scheduler.begin_commit(&lease, position, self.now);
        let good = self.is_live(&lease)
            && !self.live(&lease).pinned
            && lease.task != Task::Evaluate
            && next;
        assert_eq!(
            ticket.is_ok(),
            good,
            "commit: {position} by {lease}: {ticket:?}"
        );
        if let Ok(ticket) = ticket {
            self.pin(&lease);
            self.tickets.push(Ticket::Commit(ticket, lease, position));
        }
    }

    pub(in super::super) fn end_commit(&mut self, index: usize, story: CommitStory) {
        let is_commit = |ticket: &Ticket| matches!(ticket, Ticket::Commit(..));
        let Some(Ticket::Commit(ticket, lease, position)) = self.take_ticket(index, is_commit)
        else {
            return;
        };
        match story {
            CommitStory::Written(accuracy) => {
                self.store_position(&lease, position, accuracy);
                let end = match (position.step, self.store[&lease.task].committed()) {
                    (0, Some((_, committed))) => CommitEnd::Epoch(committed),
                    _ => CommitEnd::Step,
                };
                self.scheduler.end_commit(ticket, end, self.now);
                let now = self.now;
                self.live(&lease).moved_at = now;
                self.forgive(&lease);
                self.unpin(&lease);
            }
            CommitStory::GivenUp => {
                self.scheduler
                    .end_commit(ticket, CommitEnd::GivenUp, self.now);
                self.unpin(&lease);
            }
            CommitStory::Foreign(accuracy) => {
                let stored = self.store.get_mut(&lease.task).unwrap();
                let found = stored.add_epoch(accuracy);
                self.scheduler.supersede(ticket, found, self.now);
                self.unpin(&lease);
                self.hand_back(&lease);
            }
        }
    }

    pub(in super::super) fn late_commit(&mut self, pick: Pick, accuracy: u8) {
        let Some(lease) = self.pick(pick) else { return };
        let mut stored = self.store[&lease.task].clone();
        let epoch = stored.position().epoch.next();
        if lease.task == Task::Evaluate || epoch.0 > EPOCHS {
            return;
        }
        let found = stored.add_epoch(accuracy);
        let is_grant = |ticket: &Ticket| matches!(ticket, Ticket::Grant(id) if *id == lease);
        let is_granted = !self.tickets.iter().any(is_grant);
        let good = self.is_live(&lease) && !(self.live(&lease).pinned && is_granted);
        let caught_up = self.scheduler.catch_up(&lease, found);
        assert_eq!(caught_up.is_ok(), good, "late commit: {epoch} by {lease}");
        if good {
            assert_eq!(caught_up, Ok(true), "late commit: {epoch} by {lease}");
            self.store.insert(lease.task.clone(), stored);
            self.forgive_task(&lease);
        }
    }

    /// The lease ends, if it has not ended already, and counts for nothing.
    fn hand_back(&mut self, lease: &LeaseId) {
        if self.is_live(lease) {
            self.end(lease, End::Uncounted);
        }
    }

    fn forgive(&mut self, lease: &LeaseId) {
        self.forgive_task(lease);
        self.absolve(lease);
    }

    fn forgive_task(&mut self, lease: &LeaseId) {
        let memory = self.memory_of(lease);
        (memory.losses, memory.failures) = (0, 0);
        memory.failed_on.clear();
    }

    fn absolve(&mut self, lease: &LeaseId) {
        if let Some(member) = self.members.get_mut(&lease.worker) {
            member.failed.clear();
        }
    }

    pub(in super::super) fn end_grant(&mut self, index: usize, recorded: bool) {
        let is_grant = |ticket: &Ticket| matches!(ticket, Ticket::Grant(_));
        let Some(Ticket::Grant(lease)) = self.take_ticket(index, is_grant) else {
            return;
        };
        if recorded {
            self.store_lease(&lease);
        }
        let now = self.now;
        let live = self.live(&lease);
        (live.moved_at, live.expires_at) = (now, now + config().lease);
        self.unpin(&lease);
        if !recorded && self.is_live(&lease) {
            self.end(&lease, End::Uncounted);
        }
        let told = self.scheduler.end_grant(&lease, recorded, now);
        assert_eq!(told.is_ok(), self.is_live(&lease), "grant: {lease}");
        if told.is_ok() {
            let member = self.members.get_mut(&lease.worker).unwrap();
            member.held = Some(lease);
        }
    }

    pub(in super::super) fn begin_rewind(&mut self, pick: Pick) {
        let Some(lease) = self.pick(pick) else { return };
        let ticket = self.scheduler.begin_rewind(&lease, self.now);
        let good = self.is_live(&lease) && !self.live(&lease).pinned;
        assert_eq!(ticket.is_ok(), good, "rewind: {lease}: {ticket:?}");
        if let Ok(ticket) = ticket {
            self.pin(&lease);
            self.tickets.push(Ticket::Rewind(ticket, lease));
        }
    }

    pub(in super::super) fn end_rewind(&mut self, index: usize, back_to: Option<usize>) {
        let is_rewind = |ticket: &Ticket| matches!(ticket, Ticket::Rewind(..));
        let Some(Ticket::Rewind(ticket, lease)) = self.take_ticket(index, is_rewind) else {
            return;
        };
        let run = match &lease.task {
            Task::Train(run) => run.clone(),
            Task::Evaluate => RUNS[index % RUNS.len()].parse().unwrap(),
        };
        let rewound = back_to.map(|epochs| {
            let stored = self.store.get_mut(&Task::Train(run.clone())).unwrap();
            stored.epochs.truncate(epochs);
            (stored.step, stored.completion, stored.completed_by) = (0, None, None);
            let found = Found {
                committed: stored.committed(),
                step: 0,
            };
            (run, found)
        });
        let failed = rewound.is_none();
        self.scheduler
            .end_rewind(ticket, rewound, "a test".into(), self.now);
        self.unpin(&lease);
        if failed {
            if let Some(member) = self.members.get_mut(&lease.worker) {
                member.failed.insert(lease.task.clone());
            }
            if self.is_live(&lease) {
                self.end(&lease, End::Failed);
            }
        } else {
            self.hand_back(&lease);
        }
    }

    pub(in super::super) fn drain(&mut self, worker: usize) {
        let id = worker_id(worker);
        let drained = self.scheduler.drain(&id);
        let member = self.members.get_mut(&id);
        let Some(member) = member.filter(|member| member.connected) else {
            return assert!(drained.is_err(), "membership: {id} drains");
        };
        member.draining |= drained.is_ok();
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
            let same = stored.completed_by.as_ref() == Some(&lease);
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
            self.memory_of(&lease).live = None;
            self.absolve(&lease);
            if let Some(member) = self.members.get_mut(&lease.worker) {
                member.held.take_if(|held| *held == lease);
            }
        } else {
            self.unpin(&lease);
        }
    }

    /// Ends the commit that was begun last, if there is one.
    fn end_newest(&mut self, story: CommitStory) {
        let commits = self.tickets.iter();
        let commits = commits.filter(|ticket| matches!(ticket, Ticket::Commit(..)));
        if let Some(last) = commits.count().checked_sub(1) {
            self.end_commit(last, story);
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
            self.end_newest(CommitStory::Written(accuracy));
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
        if let Some(member) = self.members.get_mut(&lease.worker) {
            member.failed.insert(lease.task.clone());
            member.held.take_if(|held| *held == lease);
        }
        let pinned = self.live(&lease).pinned;
        self.end(&lease, End::Failed);
        // A commit in progress may forgive it yet.
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
        let grace = self.now + config().reattach_grace;
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
        self.scheduler.worker_lost(&id, self.now);
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
        for assignment in self.scheduler.assign(self.now) {
            self.check_assignment(&assignment);
            self.granted(&assignment.lease);
            self.given.push(assignment.lease.clone());
            self.tickets.push(Ticket::Grant(assignment.lease));
            if !slow {
                let grants = self.tickets.iter();
                let grants = grants.filter(|ticket| matches!(ticket, Ticket::Grant(_)));
                self.end_grant(grants.count() - 1, true);
            }
        }
        self.check_reclaimed();
        if let Some(deadline) = self.scheduler.next_deadline() {
            assert!(
                deadline > self.now,
                "deadlines: {deadline:?} is not after {:?}",
                self.now
            );
        }
    }
}
