//! The fleet, the store and the reference model that the properties are checked against.

mod check;
mod events;
mod healthy;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::{Attempt, Epoch, WorkerId};
use quartet_shared::outcome::{Outcome, StopReason};
use quartet_shared::position::Position;
use quartet_shared::progress::{EpochMetrics, Phase, Progress};
use quartet_shared::spec::Backbone;
use quartet_shared::task::{LeaseId, Task};

use super::{CommitStory, Pick};
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
        stall_after: Duration::from_secs(7),
        max_worker_losses: 2,
        max_failures: 2,
        max_failed_workers: 2,
        quarantine_after: 2,
        ..Config::default()
    }
}

/// What the store has of a task.
#[derive(Clone, Default)]
struct Stored {
    /// The newest lease that is recorded.
    lease: Option<LeaseId>,
    /// Whether a coordinator wrote down that nobody held one.
    closed: bool,
    epochs: Vec<CommittedEpoch>,
    /// Steps of the epoch after them.
    step: u32,
    completion: Option<Completion>,
    completed_by: Option<LeaseId>,
}

impl Stored {
    fn committed(&self) -> Option<(Epoch, CommittedEpoch)> {
        let last = self.epochs.last()?;
        Some((Epoch(self.epochs.len() as u32), *last))
    }

    /// The next epoch, and where the run is then.
    fn add_epoch(&mut self, accuracy: u8) -> Found {
        let epoch = self.position().epoch.next();
        let result = epoch_result(self.committed(), epoch, accuracy);
        self.epochs.push(result);
        self.step = 0;
        Found {
            committed: self.committed(),
            step: 0,
        }
    }

    fn position(&self) -> Position {
        let epoch = Epoch(self.epochs.len() as u32);
        Position {
            epoch,
            step: self.step,
        }
    }
}

/// The model's view of a live lease.
#[derive(Clone)]
struct Live {
    id: LeaseId,
    expires_at: Now,
    moved_at: Now,
    /// The standstill since then that people were told of.
    stall_told: Option<Now>,
    step: Option<u32>,
    pinned: bool,
    /// Ended so, but its pin lasts.
    closing: Option<End>,
    /// When a spare may get the task: its worker is not connected.
    reclaim_at: Option<Now>,
    /// Given before this coordinator started, by one that is dead; its worker has not been heard of since.
    restored: bool,
}

/// How a lease ended without a result.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Lost,
    Failed,
    Uncounted,
}

/// What one coordinator process remembers of a task.
#[derive(Clone, Default)]
struct Memory {
    live: Option<Live>,
    newest: Attempt,
    losses: u32,
    failures: u32,
    failed_on: BTreeSet<WorkerId>,
    not_before: Now,
}

#[derive(Clone, Default)]
struct Member {
    connected: bool,
    draining: bool,
    /// The lease that the worker believes it holds.
    held: Option<LeaseId>,
    /// What failed on it since its last success.
    failed: BTreeSet<Task>,
}

enum Ticket {
    Grant(LeaseId),
    Commit(CommitTicket, LeaseId, Position),
    Complete(CompleteTicket, LeaseId),
    Rewind(RewindTicket, LeaseId),
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

fn last_lease(stored: &Stored) -> Option<LastLease> {
    let lease = stored.lease.clone()?;
    Some(LastLease {
        attempt: lease.attempt,
        name: lease.worker.to_string(),
        worker: lease.worker,
        ended: stored.closed,
    })
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
            lease: last_lease(stored),
            committed: stored.committed(),
            step: stored.step,
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
        };
        world.start_memory();
        world
    }

    /// What a coordinator knows that has just started.
    fn start_memory(&mut self) {
        self.now = Now::default();
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
            (member.connected, member.draining) = (false, false);
            member.failed.clear();
        }
    }

    pub(super) fn restart(&mut self, landed: bool) {
        // A coordinator that ends by itself says when nobody holds a lease; one that is killed does not.
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
            Pick::Live(index) => (&live, index),
            Pick::Any(index) => (&self.given, index),
        };
        (!from.is_empty()).then(|| from[index % from.len()].clone())
    }

    /// Whether the lease is live in the model: given, not ended, not about to end.
    fn is_live(&self, lease: &LeaseId) -> bool {
        let live = self.memory[&lease.task].live.as_ref();
        live.is_some_and(|live| live.id == *lease && live.closing.is_none())
    }

    fn live(&mut self, lease: &LeaseId) -> &mut Live {
        self.memory_of(lease).live.as_mut().unwrap()
    }

    fn memory_of(&mut self, lease: &LeaseId) -> &mut Memory {
        self.memory.get_mut(&lease.task).unwrap()
    }

    fn lease_of(&self, worker: &WorkerId) -> Option<LeaseId> {
        let mut live = self
            .memory
            .values()
            .filter_map(|memory| memory.live.as_ref());
        live.find(|live| live.id.worker == *worker && live.closing.is_none())
            .map(|live| live.id.clone())
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

    /// The live lease ends without a result; with a pin, the end of the pin is its end.
    fn end(&mut self, lease: &LeaseId, end: End) {
        let memory = self.memory_of(lease);
        let live = memory.live.as_mut().unwrap();
        if live.pinned {
            live.closing.get_or_insert(end);
            return;
        }
        memory.live = None;
        match end {
            End::Lost => memory.losses += 1,
            End::Failed => {
                memory.failures += 1;
                memory.failed_on.insert(lease.worker.clone());
            }
            End::Uncounted => {}
        }
    }

    fn unpin(&mut self, lease: &LeaseId) {
        let live = self.live(lease);
        live.pinned = false;
        if let Some(end) = live.closing.take() {
            self.end(lease, end);
        }
    }

    fn last_epoch(&self, task: &Task) -> Epoch {
        self.store[task].position().epoch
    }

    fn store_lease(&mut self, lease: &LeaseId) {
        let stored = self.store.get_mut(&lease.task).unwrap();
        (stored.lease, stored.closed) = (Some(lease.clone()), false);
    }

    fn store_position(&mut self, lease: &LeaseId, position: Position, accuracy: u8) {
        let newest = self.memory[&lease.task].newest;
        assert_eq!(
            newest, lease.attempt,
            "fencing: {lease} commits after a newer attempt"
        );
        let stored = self.store.get_mut(&lease.task).unwrap();
        let before = stored.position();
        if position.step > 0 {
            assert!(
                position.epoch == before.epoch && position > before,
                "once and in order: {position} after {before} by {lease}"
            );
            stored.step = position.step;
            return;
        }
        assert_eq!(
            position.epoch,
            before.epoch.next(),
            "once and in order: {position} after {before} by {lease}"
        );
        let result = epoch_result(stored.committed(), position.epoch, accuracy);
        stored.epochs.push(result);
        stored.step = 0;
    }

    fn store_completion(&mut self, lease: &LeaseId) {
        let last = self.last_epoch(&lease.task);
        let stored = self.store.get_mut(&lease.task).unwrap();
        assert!(
            stored.completion.is_none(),
            "once: {lease} completes what is complete"
        );
        stored.completed_by = Some(lease.clone());
        stored.completion = Some(match (&lease.task, stored.committed()) {
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
            .committed()
            .is_some_and(|(epoch, committed)| {
                epoch.0 == EPOCHS || committed.early_stopping.wait >= PATIENCE
            })
    }
}

impl Live {
    fn new(id: LeaseId, now: Now) -> Self {
        Self {
            id,
            expires_at: now + config().lease,
            moved_at: now,
            stall_told: None,
            step: None,
            pinned: true,
            closing: None,
            reclaim_at: None,
            restored: false,
        }
    }

    fn renew(&mut self, now: Now) {
        self.expires_at = now + config().lease;
        (self.reclaim_at, self.restored) = (None, false);
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
