//! The end of every sequence of events: one healthy worker, and others that do not help.

use quartet_shared::state::ExperimentState;

use super::*;

/// How the other workers end up.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Remaining {
    /// Their connections end.
    Gone,
    /// Their connections stand, but they send nothing.
    Silent,
    /// They send heartbeats, and make no progress.
    Stuck,
}

/// Longer than all back-offs, timeouts and epochs together, in seconds.
const PATIENT: u32 = 600;

impl World {
    pub(in super::super) fn finish_with_one_worker(&mut self, others: Remaining, landed: bool) {
        while !self.tickets.is_empty() {
            let fate = match landed {
                true => CommitFate::Written(0),
                false => CommitFate::GivenUp,
            };
            self.end_commit(0, fate);
            self.end_complete(0, landed);
            self.end_keep(0, landed);
            self.end_grant(0, landed);
            self.end_rollback(0, landed.then_some(0));
        }
        if matches!(others, Remaining::Gone) {
            (0..WORKERS).for_each(|worker| self.disconnect(worker));
        }
        let healthy = worker_id(WORKERS);
        self.join_with(healthy.clone(), None);
        // Healthy does not mean prompt: it may fall silent for a while and go on.
        self.decide(false);
        self.wait(15_000);
        self.decide(false);
        for _ in 0..PATIENT {
            self.decide(false);
            let state = self.scheduler.experiment_state();
            if state.has_ended() {
                return self.check_end(state);
            }
            if matches!(others, Remaining::Stuck) {
                (0..WORKERS).for_each(|worker| self.heartbeat_own(worker, 0));
            }
            match self.lease_of(&healthy) {
                Some(lease) => {
                    let index = self.given.iter().position(|given| *given == lease).unwrap();
                    self.beat(&healthy, Some(lease), 0);
                    self.work(Pick::Any(index), 0);
                }
                None => self.beat(&healthy, None, 0),
            }
            self.check_view();
            self.wait(1000);
        }
        panic!(
            "liveness: not ended after {PATIENT} s: {:#?}",
            self.scheduler
        );
    }

    /// Checks that all has finished, or that the model knows why not.
    fn check_end(&self, state: ExperimentState) {
        let failed = tasks().iter().filter(|task| self.is_failed(task)).count();
        match state {
            ExperimentState::Failed => {
                let reasons = self.scheduler.failures();
                assert!(
                    failed > 0 && !reasons.is_empty(),
                    "liveness: failed without a reason"
                );
            }
            _ => {
                let done = self
                    .store
                    .values()
                    .all(|stored| stored.completion.is_some());
                assert!(done, "liveness: {state:?}, but not all is done");
            }
        }
    }
}
