//! What has become of the experiment, in memory: a cache of the store, for all who show it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quartet_history::update::forget_fleet;
use quartet_history::{EpochSummary, ExperimentRecord, Update};
use quartet_shared::clock::Timestamp;
use quartet_shared::event::{Event, Occurrence};
use quartet_shared::ids::RunName;
use quartet_shared::report::EvaluationReport;
use tokio::sync::Notify;

use super::counters::Counters;

/// Events that wait until the store takes them. Of workers that come and go faster than that, the oldest are
/// forgotten; what is about tasks is not.
const MAX_UNWRITTEN: usize = 2000;

/// What has become of the experiment.
#[derive(Default)]
pub(super) struct History {
    inner: Mutex<Inner>,
    pub(super) counters: Counters,
    /// Tells the recorder that something is to be written.
    news: Notify,
}

#[derive(Default)]
struct Inner {
    /// Absent until it is read from the store. Shared with those who are showing it.
    record: Option<Arc<ExperimentRecord>>,
    /// Counts the changes.
    version: u64,
    /// What came before it was read.
    early: Vec<Update>,
    /// Events that the store is yet to have.
    unwritten: Vec<Event>,
    /// Runs whose epochs are to be read again.
    to_reread: BTreeSet<RunName>,
    /// Something is to be written that is not about the fleet alone.
    is_urgent: bool,
}

impl History {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record as it is now; `None` until it was read from the store.
    pub(super) fn record(&self) -> Option<Arc<ExperimentRecord>> {
        self.lock().record.clone()
    }

    /// Changes with every change of the record.
    pub(super) fn version(&self) -> u64 {
        self.lock().version
    }

    /// Takes the record that was read from the store. What came meanwhile is added.
    pub(super) fn set(&self, mut record: ExperimentRecord) {
        let mut inner = self.lock();
        for update in std::mem::take(&mut inner.early) {
            record.apply(update);
        }
        inner.record = Some(Arc::new(record));
        inner.version += 1;
        drop(inner);
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
        let mut inner = self.lock();
        for what in occurrences {
            self.counters.count(&what);
            let event = Event { at, what };
            inner.update(Update::Happened(event.clone()));
            inner.is_urgent |= !event.what.is_of_fleet();
            inner.unwritten.push(event);
        }
        forget_fleet(&mut inner.unwritten, MAX_UNWRITTEN);
        drop(inner);
        self.news.notify_one();
    }

    /// An epoch is committed.
    pub(super) fn committed(&self, run: RunName, epoch: EpochSummary) {
        let mut inner = self.lock();
        inner.update(Update::Committed(run, Box::new(epoch)));
        inner.is_urgent = true;
        drop(inner);
        self.news.notify_one();
    }

    /// The store has other epochs of a run than this coordinator committed: they are to be read again.
    pub(super) fn reread(&self, run: &RunName) {
        let mut inner = self.lock();
        inner.to_reread.insert(run.clone());
        inner.is_urgent = true;
        drop(inner);
        self.news.notify_one();
    }

    /// The epochs of a run were read again.
    pub(super) fn set_epochs(&self, run: RunName, epochs: Vec<EpochSummary>) {
        let mut inner = self.lock();
        inner.to_reread.remove(&run);
        inner.update(Update::Reread(run, epochs));
    }

    /// The ensemble is evaluated.
    pub(super) fn evaluated(&self, report: EvaluationReport) {
        self.lock().update(Update::Evaluated(Box::new(report)));
    }

    /// Takes the events that the store is yet to have.
    pub(super) fn take_events(&self) -> Vec<Event> {
        let mut inner = self.lock();
        inner.is_urgent = false;
        std::mem::take(&mut inner.unwritten)
    }

    /// A run whose epochs are to be read again.
    pub(super) fn to_reread(&self) -> Option<RunName> {
        self.lock().to_reread.first().cloned()
    }

    /// Whether there is something that the store is to have soon.
    pub(super) fn is_urgent(&self) -> bool {
        self.lock().is_urgent
    }

    /// Whether the store has all events, and nothing is to be read again.
    pub(super) fn is_written(&self) -> bool {
        let inner = self.lock();
        inner.unwritten.is_empty() && inner.to_reread.is_empty()
    }

    /// Resolves when something has come since the last call.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }
}

impl Inner {
    fn update(&mut self, update: Update) {
        self.version += 1;
        match &mut self.record {
            Some(record) => Arc::make_mut(record).apply(update),
            None => self.early.push(update),
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
