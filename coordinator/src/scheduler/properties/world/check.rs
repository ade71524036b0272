//! What must hold of the scheduler's decisions and of its view.

use super::*;

impl World {
    /// Exactly the leases end that have run out in the model.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        let expired = self.scheduler.expire_leases(now);
        let run_out = |live: &Live| {
            let stuck = live.moved_at + config().progress_timeout <= now;
            !live.pinned && (live.expires_at <= now || stuck)
        };
        let live = self
            .memory
            .values()
            .filter_map(|memory| memory.live.as_ref());
        let expected: Vec<_> = live
            .filter(|live| run_out(live))
            .map(|l| l.id.clone())
            .collect();
        let ended: Vec<_> = expired.into_iter().map(|expired| expired.lease).collect();
        assert_eq!(ended, expected, "expiry");
        for lease in ended {
            self.end(&lease, |memory| memory.losses += 1);
        }
    }

    pub(super) fn check_assignment(&self, assignment: &Assignment) {
        let Assignment { lease, resume } = assignment;
        let (stored, memory) = (&self.store[&lease.task], &self.memory[&lease.task]);
        assert!(
            memory.live.is_none(),
            "exclusive: {lease} is given while another is live"
        );
        let newest = match lease.task {
            Task::Train(_) => memory.newest.max(stored.attempt),
            // The store does not keep the attempts of the evaluation.
            Task::Evaluate => memory.newest,
        };
        assert!(
            lease.attempt > newest,
            "attempts grow: {lease} after {newest}"
        );
        assert_eq!(
            *resume,
            stored.committed.map(|(epoch, _)| epoch),
            "resume: {lease}"
        );
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
            lease.task != Task::Evaluate || self.all_trained(),
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
    }

    pub(super) fn is_failed(&self, task: &Task) -> bool {
        let Memory {
            losses, failures, ..
        } = self.memory[task];
        losses > config().max_worker_losses || failures > config().max_failures
    }

    /// The scheduler's view is the model's.
    pub(in super::super) fn check_view(&self) {
        let evaluation = (Task::Evaluate, self.scheduler.evaluation());
        let runs = self.scheduler.runs().iter();
        let runs = runs.map(|run| (Task::Train(run.plan.name.clone()), run.record()));
        for (task, record) in runs.chain([evaluation]) {
            let (memory, stored) = (&self.memory[&task], &self.store[&task]);
            let lease = memory.live.as_ref().map(|live| &live.id);
            assert_eq!(
                record.lease().map(|lease| &lease.id),
                lease,
                "view: lease of {task}"
            );
            let finished = matches!(record.state(), TaskState::Finished(_));
            assert_eq!(
                finished,
                stored.completion.is_some(),
                "view: {task} is finished"
            );
            let failed = matches!(record.state(), TaskState::Failed { .. });
            let spent = !finished && lease.is_none() && self.is_failed(&task);
            assert_eq!(failed, spent, "bounded: {task} has failed");
        }
        for run in self.scheduler.runs() {
            let stored = &self.store[&Task::Train(run.plan.name.clone())];
            assert_eq!(run.committed, stored.committed, "view: committed epochs");
        }
        for worker in self.scheduler.workers() {
            let busy = match &worker.state {
                WorkerState::Busy(task) => Some(task.clone()),
                _ => None,
            };
            let lease = self.lease_of(&worker.info.id);
            assert_eq!(
                busy,
                lease.map(|lease| lease.task),
                "view: {} is busy",
                worker.info.id
            );
        }
    }
}
