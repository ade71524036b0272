//! What must hold of the scheduler's decisions and of its view.

use super::*;

impl World {
    /// Exactly those leases end that have expired in the model, and those that spare workers can reclaim.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        let expired = self.scheduler.expire_leases(now);
        let run_out = |live: &Live| {
            let stuck = live.moved_at + config().progress_timeout <= now;
            !live.pinned && (live.expires_at <= now || stuck)
        };
        let live = || {
            self.memory
                .values()
                .filter_map(|memory| memory.live.as_ref())
        };
        let expected: Vec<_> = live()
            .filter(|live| run_out(live))
            .map(|l| l.id.clone())
            .collect();
        let ended: Vec<_> = expired.into_iter().map(|expired| expired.lease).collect();
        let (ran_out, reclaimed) = ended.split_at(expected.len().min(ended.len()));
        assert_eq!(ran_out, expected, "expiry");
        let ready = self.scheduler.ready_tasks(now).len();
        assert!(
            reclaimed.is_empty() || ready <= self.scheduler.idle_workers().len(),
            "reclaimed: {reclaimed:?} without a spare worker"
        );
        for lease in reclaimed {
            let due = live().any(|live| live.id == *lease && is_due(live, now));
            assert!(due, "reclaimed: {lease} is reclaimed too early");
        }
        for lease in ended {
            self.end(&lease, End::Lost);
        }
    }

    /// Exactly the stalled leases are reported, each once until it makes progress again.
    pub(super) fn report_stalls(&mut self) {
        let now = self.now;
        let told = self.scheduler.report_stalls(now);
        let live = self.memory.values_mut().filter_map(|m| m.live.as_mut());
        let stalled = live.filter(|live| {
            let due = live.moved_at + config().stall_after <= now;
            due && live.closing.is_none() && live.stall_reported != Some(live.moved_at)
        });
        let expected: Vec<_> = stalled
            .map(|live| {
                live.stall_reported = Some(live.moved_at);
                (live.id.clone(), now.since(live.moved_at))
            })
            .collect();
        assert_eq!(told, expected, "stalls");
    }

    /// No worker is idle while a run waits for a worker that has gone.
    pub(super) fn check_reclaimed(&self) {
        let mut live = self
            .memory
            .values()
            .filter_map(|memory| memory.live.as_ref());
        let due = live.find(|live| is_due(live, self.now));
        let idle = self.scheduler.idle_workers();
        assert!(
            due.is_none() || idle.is_empty(),
            "reclaimed: {:?} waits while {idle:?} stand by",
            due.map(|live| &live.id)
        );
    }

    pub(super) fn check_grant(&self, grant: &Grant) {
        let Grant { lease, resume } = grant;
        let (stored, memory) = (&self.store[&lease.task], &self.memory[&lease.task]);
        assert!(
            memory.live.is_none(),
            "exclusive: {lease} is given while another is live"
        );
        let recorded = stored
            .lease
            .as_ref()
            .map_or(Attempt(0), |lease| lease.attempt);
        let newest = memory.newest.max(recorded);
        assert!(
            lease.attempt > newest,
            "attempts grow: {lease} after {newest}"
        );
        assert_eq!(*resume, stored.position(), "resume: {lease}");
        assert!(
            stored.completion.is_none(),
            "once: {lease} is given, the task is complete"
        );
        assert!(
            memory.not_before <= self.now,
            "back-off: {lease} is given too early"
        );
        assert!(
            !self.is_failed(&lease.task),
            "bounded: {lease} is given, the budget is spent"
        );
        assert!(
            lease.task != Task::Evaluate || self.can_evaluate(),
            "order: {lease} comes last"
        );
        assert_eq!(
            self.lease_of(&lease.worker),
            None,
            "one task a worker: {lease}"
        );
        let member = &self.members[&lease.worker];
        assert!(
            member.connected && !member.draining,
            "membership: {lease} is given"
        );
        let healthy = self.scheduler.workers().find(|worker| {
            let member = &self.members[&worker.info.id];
            let there = !matches!(
                worker.state(&config()),
                WorkerState::Lost | WorkerState::Draining
            );
            there && !member.draining && !is_quarantined(member)
        });
        assert!(
            !is_quarantined(member) || healthy.is_none(),
            "quarantine: {lease} is given although {healthy:?} is there"
        );
    }

    /// Whether all runs have finished or failed, and one has finished.
    fn can_evaluate(&self) -> bool {
        let mut runs = self
            .store
            .iter()
            .filter(|(task, _)| **task != Task::Evaluate);
        let finished = |stored: &Stored| stored.completion.is_some();
        runs.clone().any(|(_, stored)| finished(stored))
            && runs.all(|(task, stored)| {
                let live = self.memory[task].live.is_some();
                finished(stored) || (!live && self.is_failed(task))
            })
    }

    pub(super) fn is_failed(&self, task: &Task) -> bool {
        let Memory {
            losses,
            failures,
            repeatable,
            failed_on,
            ..
        } = &self.memory[task];
        *losses > config().max_worker_losses
            || *failures > config().max_failures
            || *repeatable > config().max_repeatable_failures
            || failed_on.len() >= config().max_failed_workers as usize
    }

    /// The scheduler's view equals the model's.
    pub(in super::super) fn check_view(&self) {
        let evaluation = (Task::Evaluate, self.scheduler.evaluation());
        let runs = self.scheduler.runs().iter();
        let runs = runs.map(|run| (Task::Train(run.settings.name.clone()), run.record()));
        for (task, record) in runs.chain([evaluation]) {
            let (memory, stored) = (&self.memory[&task], &self.store[&task]);
            let lease = memory.live.as_ref().map(|live| &live.id);
            assert_eq!(
                record.lease().map(|lease| &lease.id),
                lease,
                "view: lease of {task}"
            );
            let finished = record.state() == TaskState::Finished;
            assert_eq!(
                finished,
                stored.completion.is_some(),
                "view: {task} is finished"
            );
            let failed = record.state() == TaskState::Failed;
            let spent = !finished && lease.is_none() && self.is_failed(&task);
            assert_eq!(failed, spent, "bounded: {task} has failed");
        }
        for run in self.scheduler.runs() {
            let stored = &self.store[&Task::Train(run.settings.name.clone())];
            assert_eq!(*run.committed(), stored.committed(), "view: committed");
        }
        for worker in self.scheduler.workers() {
            let lease = self.lease_of(&worker.info.id);
            assert_eq!(
                worker.task(),
                lease.as_ref().map(|lease| &lease.task),
                "view: {} is busy",
                worker.info.id
            );
        }
    }
}

fn is_due(live: &Live, now: Now) -> bool {
    !live.pinned && live.reclaim_at.is_some_and(|at| at <= now)
}

fn is_quarantined(member: &Member) -> bool {
    member.failed.len() >= config().quarantine_after as usize
}
