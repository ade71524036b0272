//! The fleet, the store and the reference model that the properties are checked against.

mod check;
mod healthy;
mod memory;
mod store;
mod transactions;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::{Attempt, Epoch, WorkerId};
use quartet_shared::outcome::{Outcome, StopReason};
use quartet_shared::position::Position;
use quartet_shared::progress::{EpochMetrics, Phase, Progress};
use quartet_shared::spec::Backbone;
use quartet_shared::state::{TaskState, WorkerState};
use quartet_shared::task::{LeaseId, Task};

use super::{CommitFate, Pick};
use quartet_coordinator::scheduler::*;

use memory::{End, Live, Member, Memory};
use store::{Stored, last_lease};

pub(super) use healthy::Remaining;

pub(super) const WORKERS: usize = 3;
const RUNS: [&str; 2] = ["a", "b"];
const EPOCHS: u32 = 3;
const PATIENCE: u32 = 2;

fn config() -> Config {
    Config {
        lease: Duration::from_secs(15),
        progress_timeout: Duration::from_secs(20),
        stall_after: Duration::from_secs(7),
        max_worker_losses: 2,
        max_failures: 2,
        max_failed_workers: 2,
        quarantine_after: 2,
        ..Config::default()
    }
}

enum Ticket {
    Grant(LeaseId),
    Commit(CommitTicket, LeaseId, Position),
    Complete(CompleteTicket, LeaseId),
    Keep(KeepTicket, LeaseId),
    Rollback(RollbackTicket, LeaseId),
}

pub(super) struct World {
    scheduler: Scheduler,
    now: Now,
    store: BTreeMap<Task, Stored>,
    memory: BTreeMap<Task, Memory>,
    members: BTreeMap<WorkerId, Member>,
    given: Vec<LeaseId>,
    tickets: Vec<Ticket>,
    /// No worker that is not connected loses its lease to a spare before.
    earliest_reclaim: Now,
}

fn tasks() -> Vec<Task> {
    let runs = RUNS.iter().map(|run| Task::Train(run.parse().unwrap()));
    runs.chain([Task::Evaluate]).collect()
}

fn worker_id(index: usize) -> WorkerId {
    format!("w{index}").parse().unwrap()
}

fn progress(step: u32) -> Progress {
    Progress {
        phase: Phase::Training,
        epoch: Epoch(1),
        epochs: EPOCHS,
        step,
        steps: 4,
        images_per_second: 1.0,
        input_wait: None,
        loss: None,
        accuracy: None,
    }
}

fn scheduler(store: &BTreeMap<Task, Stored>) -> Scheduler {
    let settings = |run: &&str| RunSettings {
        name: run.parse().unwrap(),
        backbone: Backbone::Vgg16,
        epochs: EPOCHS,
        patience: PATIENCE,
        cost: 1.0,
        has_weight: true,
    };
    let history = |(task, stored): (&Task, &Stored)| match (task, stored.completion) {
        (Task::Evaluate, _) => None,
        (Task::Train(run), completion) => Some(RunHistory {
            run: run.clone(),
            lease: last_lease(stored),
            committed: stored.committed(),
            outcome: match completion {
                Some(Completion::Trained(outcome)) => Some(outcome),
                _ => None,
            },
        }),
    };
    let runs = store.iter().filter_map(history).collect();
    let evaluated = store[&Task::Evaluate].completion.is_some();
    Scheduler::new(
        "x-1".parse().unwrap(),
        config(),
        RUNS.iter().map(settings).collect(),
        History {
            runs,
            evaluation: last_lease(&store[&Task::Evaluate]),
            evaluated,
        },
    )
}

impl World {
    pub(super) fn new() -> Self {
        let store = tasks()
            .into_iter()
            .map(|task| (task, Stored::default()))
            .collect();
        let mut world = Self {
            scheduler: scheduler(&store),
            now: Now::default(),
            store,
            memory: BTreeMap::new(),
            members: BTreeMap::new(),
            given: Vec::new(),
            tickets: Vec::new(),
            earliest_reclaim: Now::default(),
        };
        world.start_memory();
        world
    }

    pub(super) fn restart(&mut self, landed: bool) {
        // A coordinator that ends by itself records that no lease is held; one that is killed does not.
        let leased = self.memory.values().any(|memory| memory.live.is_some());
        assert_eq!(self.scheduler.has_leases(), leased, "leases");
        if landed && !leased {
            for stored in self.store.values_mut() {
                stored.closed = true;
            }
        }
        for ticket in std::mem::take(&mut self.tickets) {
            match ticket {
                Ticket::Grant(lease) if landed => self.store_lease(&lease),
                Ticket::Commit(_, lease, position) if landed => {
                    self.store_position(&lease, position, 0);
                }
                Ticket::Complete(_, lease) if landed => self.store_completion(&lease),
                _ => {}
            }
        }
        // An evaluation without the runs that had failed is none: they are tried again.
        if !self.all_trained() {
            let evaluation = self.store.get_mut(&Task::Evaluate).unwrap();
            (evaluation.completion, evaluation.completed_by) = (None, None);
        }
        self.start_memory();
        self.scheduler = scheduler(&self.store);
    }

    pub(super) fn wait(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
    }

    fn pick(&self, pick: Pick) -> Option<LeaseId> {
        let live: Vec<_> = self
            .memory
            .values()
            .filter_map(|m| Some(m.live.as_ref()?.id.clone()))
            .collect();
        let (from, index) = match pick {
            Pick::Live(index) | Pick::Foreign(index) => (&live, index),
            Pick::Any(index) => (&self.given, index),
        };
        let mut picked = (!from.is_empty()).then(|| from[index % from.len()].clone())?;
        if matches!(pick, Pick::Foreign(_)) {
            picked.experiment = "x-2".parse().unwrap();
        }
        Some(picked)
    }

    pub(super) fn resumed(&mut self) {
        self.scheduler.resumed(self.now);
        self.earliest_reclaim = self.now + config().recovery_grace;
    }
}
