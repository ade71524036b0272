//! The fleet, the store and the reference model that the properties are checked against.

mod check;
mod events;
mod healthy;

use std::collections::BTreeMap;
use std::time::Duration;

use quartet_shared::checkpoint::{Outcome, StopReason};
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::{Attempt, Epoch, WorkerId};
use quartet_shared::progress::{EpochMetrics, Phase, Progress};
use quartet_shared::spec::Backbone;
use quartet_shared::task::{LeaseId, Task};

use super::Pick;
use crate::scheduler::*;

pub(super) use healthy::Remaining;

pub(super) const WORKERS: usize = 3;
const RUNS: [&str; 2] = ["a", "b"];
const EPOCHS: u32 = 3;
const PATIENCE: u32 = 2;

fn config() -> Config {
    Config {
        lease: Duration::from_secs(15),
        progress_timeout: Duration::from_secs(20),
        max_worker_losses: 2,
        max_failures: 1,
        ..Config::default()
    }
}

/// What the store has of a task, and the newest attempt ever.
#[derive(Clone, Default)]
struct Stored {
    attempt: Attempt,
    committed: Option<(Epoch, CommittedEpoch)>,
    completion: Option<Completion>,
    completed_by: Option<LeaseId>,
}

/// The model's view of a live lease.
#[derive(Clone)]
struct Live {
    id: LeaseId,
    expires_at: Now,
    moved_at: Now,
    step: Option<u32>,
    pinned: bool,
    /// Ended, but its pin lasts.
    closing: bool,
}

/// What one coordinator process remembers of a task.
#[derive(Clone, Default)]
struct Memory {
    live: Option<Live>,
    issued: bool,
    newest: Attempt,
    losses: u32,
    failures: u32,
    not_before: Now,
}

#[derive(Clone, Default)]
struct Member {
    connected: bool,
    draining: bool,
    /// The lease that the worker believes it holds.
    held: Option<LeaseId>,
}

enum Ticket {
    Commit(CommitTicket, LeaseId, Epoch),
    Complete(CompleteTicket, LeaseId),
}

pub(super) struct World {
    scheduler: Scheduler,
    now: Now,
    store: BTreeMap<Task, Stored>,
    memory: BTreeMap<Task, Memory>,
    members: BTreeMap<WorkerId, Member>,
    given: Vec<LeaseId>,
    tickets: Vec<Ticket>,
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
        loss: None,
        accuracy: None,
    }
}

fn scheduler(store: &BTreeMap<Task, Stored>) -> Scheduler {
    let plan = |run: &&str| RunPlan {
        name: run.parse().unwrap(),
        backbone: Backbone::Vgg16,
        epochs: EPOCHS,
        patience: PATIENCE,
        cost: 1.0,
    };
    let history = |(task, stored): (&Task, &Stored)| match (task, stored.completion) {
        (Task::Evaluate, _) => None,
        (Task::Train(run), completion) => Some(RunHistory {
            run: run.clone(),
            attempt: stored.attempt,
            committed: stored.committed,
            outcome: match completion {
                Some(Completion::Trained(outcome)) => Some(outcome),
                _ => None,
            },
        }),
    };
    let runs = store.iter().filter_map(history).collect();
    let evaluated = store[&Task::Evaluate].completion.is_some();
    Scheduler::new(
        config(),
        RUNS.iter().map(plan).collect(),
        History { runs, evaluated },
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
        };
        world.start_memory();
        world
    }

    fn start_memory(&mut self) {
        self.memory = tasks()
            .into_iter()
            .map(|task| (task, Memory::default()))
            .collect();
        self.members
            .values_mut()
            .for_each(|member| member.connected = false);
    }

    pub(super) fn restart(&mut self, landed: bool) {
        for ticket in std::mem::take(&mut self.tickets) {
            match ticket {
                Ticket::Commit(_, lease, epoch) if landed => {
                    self.store_epoch(&lease, epoch, epoch_result(None, epoch, 0));
                }
                Ticket::Complete(_, lease) if landed => self.store_completion(&lease),
                _ => {}
            }
        }
        self.start_memory();
        self.members
            .values_mut()
            .for_each(|member| member.draining = false);
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
            Pick::Live(index) => (&live, index),
            Pick::Any(index) => (&self.given, index),
        };
        (!from.is_empty()).then(|| from[index % from.len()].clone())
    }

    /// Whether the lease is live in the model: given, not ended, not about to end.
    fn is_live(&self, lease: &LeaseId) -> bool {
        let live = self.memory[&lease.task].live.as_ref();
        live.is_some_and(|live| live.id == *lease && !live.closing)
    }

    fn live(&mut self, lease: &LeaseId) -> &mut Live {
        self.memory
            .get_mut(&lease.task)
            .unwrap()
            .live
            .as_mut()
            .unwrap()
    }

    fn lease_of(&self, worker: &WorkerId) -> Option<LeaseId> {
        let mut live = self
            .memory
            .values()
            .filter_map(|memory| memory.live.as_ref());
        live.find(|live| live.id.worker == *worker && !live.closing)
            .map(|live| live.id.clone())
    }

    /// Whether an older coordinator's lease may be adopted by the model's rules.
    fn is_adoptable(&self, lease: &LeaseId) -> bool {
        let memory = &self.memory[&lease.task];
        !memory.issued
            && self.store[&lease.task].completion.is_none()
            && match lease.task {
                Task::Train(_) => lease.attempt == self.store[&lease.task].attempt,
                Task::Evaluate => self.all_trained() && lease.attempt >= memory.newest,
            }
    }

    fn all_trained(&self) -> bool {
        let runs = self
            .store
            .iter()
            .filter(|(task, _)| **task != Task::Evaluate);
        runs.into_iter()
            .all(|(_, stored)| stored.completion.is_some())
    }

    fn granted(&mut self, lease: &LeaseId) {
        let (now, expires_at) = (self.now, self.now + config().lease);
        let memory = self.memory.get_mut(&lease.task).unwrap();
        assert!(
            memory.live.is_none(),
            "exclusive: {lease} beside {:?}",
            memory.live.as_ref().map(|l| &l.id)
        );
        memory.issued = true;
        memory.newest = lease.attempt;
        let stored = self.store.get_mut(&lease.task).unwrap();
        stored.attempt = stored.attempt.max(lease.attempt);
        let id = lease.clone();
        let (step, pinned, closing) = (None, false, false);
        memory.live = Some(Live {
            id,
            expires_at,
            moved_at: now,
            step,
            pinned,
            closing,
        });
        self.members.get_mut(&lease.worker).unwrap().held = Some(lease.clone());
    }

    /// The live lease ends without a result; with a pin, the end of the pin is its end.
    fn end(&mut self, lease: &LeaseId, count: impl FnOnce(&mut Memory)) {
        let memory = self.memory.get_mut(&lease.task).unwrap();
        count(memory);
        let live = memory.live.as_mut().unwrap();
        if live.pinned {
            live.closing = true
        } else {
            memory.live = None
        }
    }

    fn unpin(&mut self, lease: &LeaseId) {
        let memory = self.memory.get_mut(&lease.task).unwrap();
        let live = memory.live.as_mut().unwrap();
        live.pinned = false;
        if live.closing {
            memory.live = None;
        }
    }

    fn last_epoch(&self, task: &Task) -> Epoch {
        self.store[task]
            .committed
            .map_or(Epoch(0), |(epoch, _)| epoch)
    }

    fn store_epoch(&mut self, lease: &LeaseId, epoch: Epoch, committed: CommittedEpoch) {
        let last = self.last_epoch(&lease.task);
        assert_eq!(
            epoch,
            last.next(),
            "once and in order: epoch {epoch} after {last} by {lease}"
        );
        let stored = self.store.get_mut(&lease.task).unwrap();
        assert_eq!(
            stored.attempt, lease.attempt,
            "fencing: {lease} commits after a newer attempt"
        );
        stored.committed = Some((epoch, committed));
    }

    fn store_completion(&mut self, lease: &LeaseId) {
        let last = self.last_epoch(&lease.task);
        let stored = self.store.get_mut(&lease.task).unwrap();
        assert!(
            stored.completion.is_none(),
            "once: {lease} completes what is complete"
        );
        stored.completed_by = Some(lease.clone());
        stored.completion = Some(match (&lease.task, stored.committed) {
            (Task::Evaluate, _) => Completion::Evaluated,
            (Task::Train(_), None) => panic!("complete: {lease} has no epochs"),
            (Task::Train(_), Some((_, committed))) => Completion::Trained(Outcome {
                epochs: last.0,
                best_epoch: committed.early_stopping.best_epoch,
                best_valid_accuracy: committed.early_stopping.best_valid_accuracy,
                stop_reason: StopReason::Epochs,
            }),
        });
    }

    fn is_trained(&self, task: &Task) -> bool {
        self.store[task]
            .committed
            .is_some_and(|(epoch, committed)| {
                epoch.0 == EPOCHS || committed.early_stopping.wait >= PATIENCE
            })
    }
}

/// An epoch's result; only its accuracy matters.
fn epoch_result(
    before: Option<(Epoch, CommittedEpoch)>,
    epoch: Epoch,
    accuracy: u8,
) -> CommittedEpoch {
    let valid_accuracy = f64::from(accuracy) / 255.0;
    let before = before.map(|(_, committed)| committed.early_stopping);
    CommittedEpoch {
        metrics: EpochMetrics {
            train_loss: 0.0,
            train_accuracy: 0.0,
            valid_loss: 0.0,
            valid_accuracy,
            images_per_second: 0.0,
            seconds: 0.0,
        },
        early_stopping: EarlyStopping::observe(before, epoch, valid_accuracy),
    }
}
