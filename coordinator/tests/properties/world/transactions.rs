//! Transactions, and what the scheduler must answer.

use super::*;

impl World {
    fn pin(&mut self, lease: &LeaseId) {
        let now = self.now;
        let live = self.live(lease);
        live.pinned = true;
        live.restored = false;
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

    pub(in super::super) fn end_commit(&mut self, index: usize, fate: CommitFate) {
        let is_commit = |ticket: &Ticket| matches!(ticket, Ticket::Commit(..));
        let Some(Ticket::Commit(ticket, lease, position)) = self.take_ticket(index, is_commit)
        else {
            return;
        };
        match fate {
            CommitFate::Written(accuracy) => {
                self.store_position(&lease, position, accuracy);
                let end = match (position.step, self.store[&lease.task].epochs.last()) {
                    (0, Some(result)) => CommitEnd::Epoch(*result),
                    _ => CommitEnd::MidEpoch,
                };
                self.scheduler.end_commit(ticket, end, self.now);
                let now = self.now;
                self.live(&lease).moved_at = now;
                self.reset_failures(&lease);
                self.unpin(&lease);
            }
            CommitFate::GivenUp => {
                self.scheduler
                    .end_commit(ticket, CommitEnd::GivenUp, self.now);
                self.unpin(&lease);
            }
            CommitFate::Foreign(accuracy) => {
                let stored = self.store.get_mut(&lease.task).unwrap();
                let committed = stored.add_epoch(accuracy);
                self.scheduler.supersede(ticket, committed, self.now);
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
        let committed = stored.add_epoch(accuracy);
        let is_grant = |ticket: &Ticket| matches!(ticket, Ticket::Grant(id) if *id == lease);
        let is_granted = !self.tickets.iter().any(is_grant);
        let good = self.is_live(&lease) && !(self.live(&lease).pinned && is_granted);
        let caught_up = self.scheduler.catch_up(&lease, committed);
        assert_eq!(caught_up.is_ok(), good, "late commit: {epoch} by {lease}");
        if good {
            assert_eq!(caught_up, Ok(true), "late commit: {epoch} by {lease}");
            self.store.insert(lease.task.clone(), stored);
            self.reset_task(&lease);
        }
    }

    /// Ends the lease, if it has not ended already, without counting it.
    fn hand_back(&mut self, lease: &LeaseId) {
        if self.is_live(lease) {
            self.end(lease, End::Uncounted);
        }
    }

    fn reset_failures(&mut self, lease: &LeaseId) {
        self.reset_task(lease);
        self.reset_worker(lease);
    }

    fn reset_task(&mut self, lease: &LeaseId) {
        let memory = self.memory_of(lease);
        (memory.losses, memory.failures, memory.repeatable) = (0, 0, 0);
        memory.failed_on.clear();
    }

    fn reset_worker(&mut self, lease: &LeaseId) {
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

    pub(in super::super) fn begin_rollback(&mut self, pick: Pick) {
        let Some(lease) = self.pick(pick) else { return };
        let ticket = self
            .scheduler
            .begin_rollback(&lease, "a test".into(), self.now);
        let good = self.is_live(&lease) && !self.live(&lease).pinned;
        assert_eq!(ticket.is_ok(), good, "rollback: {lease}: {ticket:?}");
        if let Ok(ticket) = ticket {
            self.pin(&lease);
            self.tickets.push(Ticket::Rollback(ticket, lease));
        }
    }

    pub(in super::super) fn end_rollback(&mut self, index: usize, back_to: Option<usize>) {
        let is_rollback = |ticket: &Ticket| matches!(ticket, Ticket::Rollback(..));
        let Some(Ticket::Rollback(ticket, lease)) = self.take_ticket(index, is_rollback) else {
            return;
        };
        let run = match &lease.task {
            Task::Train(run) => run.clone(),
            Task::Evaluate => RUNS[index % RUNS.len()].parse().unwrap(),
        };
        let rolled_back = back_to.map(|epochs| {
            let stored = self.store.get_mut(&Task::Train(run.clone())).unwrap();
            stored.epochs.truncate(epochs);
            (stored.step, stored.completion, stored.completed_by) = (0, None, None);
            (run, stored.committed())
        });
        let failed = rolled_back.is_none();
        self.scheduler.end_rollback(ticket, rolled_back, self.now);
        self.unpin(&lease);
        if failed {
            if let Some(member) = self.members.get_mut(&lease.worker) {
                member.failed.insert(lease.task.clone());
            }
            if self.is_live(&lease) {
                self.end(
                    &lease,
                    End::Failed {
                        is_repeatable: false,
                    },
                );
            }
        } else {
            self.hand_back(&lease);
        }
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
            self.reset_worker(&lease);
            if let Some(member) = self.members.get_mut(&lease.worker) {
                member.held.take_if(|held| *held == lease);
            }
        } else {
            self.unpin(&lease);
        }
    }

    pub(in super::super) fn begin_keep(&mut self, pick: Pick) {
        let Some(lease) = self.pick(pick) else { return };
        let run = RUNS[0].parse().unwrap();
        let ticket = self.scheduler.begin_keep(&lease, &run, self.now);
        let good =
            self.is_live(&lease) && !self.live(&lease).pinned && lease.task == Task::Evaluate;
        assert_eq!(ticket.is_ok(), good, "keep: {lease}: {ticket:?}");
        if let Ok(ticket) = ticket {
            self.pin(&lease);
            self.tickets.push(Ticket::Keep(ticket, lease));
        }
    }

    pub(in super::super) fn end_keep(&mut self, index: usize, kept: bool) {
        let is_keep = |ticket: &Ticket| matches!(ticket, Ticket::Keep(..));
        let Some(Ticket::Keep(ticket, lease)) = self.take_ticket(index, is_keep) else {
            return;
        };
        self.scheduler.end_keep(ticket, kept, self.now);
        if kept {
            let now = self.now;
            self.live(&lease).moved_at = now;
        }
        self.unpin(&lease);
    }

    /// Ends the commit that was begun last, if any.
    fn end_newest(&mut self, fate: CommitFate) {
        let commits = self.tickets.iter();
        let commits = commits.filter(|ticket| matches!(ticket, Ticket::Commit(..)));
        if let Some(last) = commits.count().checked_sub(1) {
            self.end_commit(last, fate);
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
            self.end_newest(CommitFate::Written(accuracy));
        }
        if lease.task == Task::Evaluate || self.is_trained(&lease.task) {
            self.begin_complete(Pick::Any(index));
            self.end_complete(self.tickets.len(), true);
        }
    }
}
