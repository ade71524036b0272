//! What has become of the experiment, in memory: a cache of the store, for all who show it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quartet_history::update::forget_fleet;
use quartet_history::{EpochSummary, ExperimentRecord, Update};
use quartet_shared::clock::Timestamp;
use quartet_shared::event::{Event, Occurrence};
use quartet_shared::ids::{Attempt, RunName};
use quartet_shared::provenance::Provenance;
use quartet_shared::report::EvaluationReport;
use quartet_shared::task::Task;
use tokio::sync::Notify;

use super::counters::Counters;

/// Events that wait until the store takes them. Of workers that come and go faster than that, the oldest are
/// forgotten; what is about tasks is not.
const MAX_UNWRITTEN: usize = 2000;

/// Events of the fleet that the store gets in one term: a worker that comes and goes for days fills no store.
const MAX_OF_FLEET: usize = 20_000;

/// What has become of the experiment.
#[derive(Default)]
pub(super) struct History {
    /// What is new. It is told under the scheduler's lock, so that it takes no time.
    inbox: Mutex<Inbox>,
    settled: Mutex<Settled>,
    pub(super) counters: Counters,
    /// Tells the recorder that something is to be written.
    news: Notify,
}

#[derive(Default)]
struct Inbox {
    updates: Vec<Update>,
    /// Something is to be written that is not about the fleet alone.
    is_urgent: bool,
}

#[derive(Default)]
struct Settled {
    /// Absent until it is read from the store. Shared with those who are showing it.
    record: Option<Arc<ExperimentRecord>>,
    /// Counts the changes.
    version: u64,
    /// What came before it was read.
    early: Vec<Update>,
    /// Events that the store is yet to have.
    unwritten: Vec<Event>,
    /// Events of the fleet in this term.
    of_fleet: usize,
    /// Runs whose epochs are to be read again.
    to_reread: BTreeSet<RunName>,
}

impl History {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that is known, with what is new.
    fn settled(&self) -> MutexGuard<'_, Settled> {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken under the other lock, so that they stay in order.
        let updates = std::mem::take(&mut self.inbox().updates);
        for update in updates {
            settled.update(update);
        }
        settled
    }

    fn tell(&self, update: Update) {
        let mut inbox = self.inbox();
        inbox.updates.push(update);
        inbox.is_urgent = true;
        drop(inbox);
        self.news.notify_one();
    }

    /// The record as it is now; `None` until it was read from the store.
    pub(super) fn record(&self) -> Option<Arc<ExperimentRecord>> {
        self.settled().record.clone()
    }

    /// Changes with every change of the record.
    pub(super) fn version(&self) -> u64 {
        self.settled().version
    }

    /// Takes the record that was read from the store. What came meanwhile is added.
    pub(super) fn set(&self, mut record: ExperimentRecord) {
        let mut settled = self.settled();
        for update in std::mem::take(&mut settled.early) {
            record.apply(update);
        }
        settled.record = Some(Arc::new(record));
        settled.version += 1;
        drop(settled);
        self.news.notify_one();
    }

    /// Something has happened, now.
    pub(super) fn add(&self, what: Occurrence) {
        self.add_all(vec![what]);
    }

    /// The same of several things.
    pub(super) fn add_all(&self, occurrences: Vec<Occurrence>) {
        if occurrences.is_empty() {
            return;
        }
        let at = Timestamp::now();
        let mut inbox = self.inbox();
        for what in occurrences {
            self.counters.count(&what);
            inbox.is_urgent |= !what.is_of_fleet();
            inbox.updates.push(Update::Happened(Event { at, what }));
        }
        drop(inbox);
        self.news.notify_one();
    }

    /// An attempt that has begun is recorded.
    pub(super) fn recorded(&self, task: Task, attempt: Attempt, provenance: Provenance) {
        self.tell(Update::Recorded(task, attempt, Box::new(provenance)));
    }

    /// An epoch is committed.
    pub(super) fn committed(&self, run: RunName, epoch: EpochSummary) {
        self.tell(Update::Committed(run, Box::new(epoch)));
    }

    /// The ensemble is evaluated.
    pub(super) fn evaluated(&self, report: EvaluationReport) {
        self.tell(Update::Evaluated(Box::new(report)));
    }

    /// The store has other epochs of a run than this coordinator committed: they are to be read again.
    pub(super) fn reread(&self, run: &RunName) {
        self.settled().to_reread.insert(run.clone());
        self.inbox().is_urgent = true;
        self.news.notify_one();
    }

    /// Takes a run whose epochs are to be read again.
    pub(super) fn take_to_reread(&self) -> Option<RunName> {
        self.settled().to_reread.pop_first()
    }

    /// The epochs of a run were read again.
    pub(super) fn set_epochs(&self, run: RunName, epochs: Vec<EpochSummary>) {
        self.tell(Update::Reread(run, epochs));
    }

    /// Takes the events that the store is yet to have.
    pub(super) fn take_events(&self) -> Vec<Event> {
        self.inbox().is_urgent = false;
        std::mem::take(&mut self.settled().unwritten)
    }

    /// Whether there is something that the store is to have soon.
    pub(super) fn is_urgent(&self) -> bool {
        self.inbox().is_urgent
    }

    /// Whether the store has all events, and nothing is to be read again.
    pub(super) fn is_written(&self) -> bool {
        let settled = self.settled();
        settled.unwritten.is_empty() && settled.to_reread.is_empty()
    }

    /// Resolves when something has come since the last call.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }
}

impl Settled {
    fn update(&mut self, update: Update) {
        self.version += 1;
        if let Update::Happened(event) = &update {
            self.of_fleet += usize::from(event.what.is_of_fleet());
            if !event.what.is_of_fleet() || self.of_fleet <= MAX_OF_FLEET {
                self.unwritten.push(event.clone());
                forget_fleet(&mut self.unwritten, MAX_UNWRITTEN);
            }
        }
        match &mut self.record {
            Some(record) => Arc::make_mut(record).apply(update),
            None => {
                self.early.push(update);
                self.forget_early();
            }
        }
    }

    /// Forgets the first early events of the fleet, if there are too many.
    fn forget_early(&mut self) {
        let of_fleet =
            |update: &Update| matches!(update, Update::Happened(e) if e.what.is_of_fleet());
        let mut surplus = self.early.len().saturating_sub(MAX_OF_FLEET);
        if surplus > 0 {
            surplus += MAX_OF_FLEET / 10;
            self.early.retain(|update| {
                let is_kept = surplus == 0 || !of_fleet(update);
                surplus -= usize::from(!is_kept);
                is_kept
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use quartet_shared::event::Worker;

    use super::*;

    fn joined(name: &str) -> Occurrence {
        Occurrence::WorkerJoined {
            worker: Worker {
                id: "w".parse().unwrap(),
                name: name.into(),
            },
            device: "CPU".into(),
        }
    }

    #[test]
    fn only_what_is_about_the_fleet_can_wait() {
        let history = History::default();
        assert!(history.is_written());
        history.add(joined("a"));
        assert!(!history.is_written() && !history.is_urgent());
        history.add(Occurrence::CoordinatorStopped { reason: "x".into() });
        assert!(history.is_urgent());
        assert_eq!(history.take_events().len(), 2);
        assert!(history.is_written());
    }

    #[test]
    fn events_that_no_store_takes_are_bounded() {
        let history = History::default();
        let stopped = Occurrence::CoordinatorStopped { reason: "x".into() };
        history.add_all(vec![joined("first"), stopped.clone()]);
        for _ in 0..MAX_UNWRITTEN {
            history.add(joined("another"));
        }
        let unwritten = history.take_events();
        assert!(unwritten.len() <= MAX_UNWRITTEN, "{}", unwritten.len());
        let kept = |what: &Occurrence| unwritten.iter().filter(|event| event.what == *what).count();
        assert_eq!((kept(&stopped), kept(&joined("first"))), (1, 0));
    }
}
