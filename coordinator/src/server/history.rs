//! What has become of the experiment, in memory: a cache of the store, for all who show it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quartet_history::{EpochSummary, ExperimentRecord, Update};
use quartet_shared::clock::Timestamp;
use quartet_shared::event::{Event, Occurrence};
use quartet_shared::ids::RunName;
use quartet_shared::report::EvaluationReport;
use tokio::sync::Notify;

/// Events that wait until the store takes them. Of a fleet that comes and goes while the store is away, the
/// oldest are forgotten.
const MAX_UNWRITTEN: usize = 10_000;

/// What has become of the experiment.
#[derive(Default)]
pub(super) struct History {
    inner: Mutex<Inner>,
    /// Tells the recorder that something is to be written.
    news: Notify,
}

#[derive(Default)]
struct Inner {
    /// Absent until it is read from the store.
    record: Option<ExperimentRecord>,
    /// What came before it was read.
    early: Vec<Update>,
    unwritten: Unwritten,
}

/// What the store is yet to have.
#[derive(Default)]
struct Unwritten {
    /// What has happened.
    events: Vec<Event>,
    /// Runs whose epochs are to be read again.
    to_reread: BTreeSet<RunName>,
}

impl Unwritten {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.to_reread.is_empty()
    }

    /// Whether it is about the fleet alone, and can wait.
    fn can_wait(&self) -> bool {
        let of_fleet = self.events.iter().all(|event| event.what.is_of_fleet());
        of_fleet && self.to_reread.is_empty()
    }
}

impl History {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the record; `None` until it was read from the store.
    pub(super) fn read<T>(&self, read: impl FnOnce(&ExperimentRecord) -> T) -> Option<T> {
        self.lock().record.as_ref().map(read)
    }

    /// Takes the record that was read from the store. What came meanwhile is added.
    pub(super) fn set(&self, mut record: ExperimentRecord) {
        let mut inner = self.lock();
        for update in std::mem::take(&mut inner.early) {
            record.apply(update);
        }
        inner.record = Some(record);
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
            let event = Event { at, what };
            inner.update(Update::Happened(event.clone()));
            inner.unwritten.events.push(event);
        }
        let surplus = inner.unwritten.events.len().saturating_sub(MAX_UNWRITTEN);
        inner.unwritten.events.drain(..surplus);
        drop(inner);
        self.news.notify_one();
    }

    /// An epoch is committed.
    pub(super) fn committed(&self, run: RunName, epoch: EpochSummary) {
        let mut inner = self.lock();
        inner.update(Update::Committed(run, Box::new(epoch)));
        drop(inner);
        self.news.notify_one();
    }

    /// The store has other epochs of a run than this coordinator committed: they are to be read again.
    pub(super) fn reread(&self, run: &RunName) {
        self.lock().unwritten.to_reread.insert(run.clone());
        self.news.notify_one();
    }

    /// The epochs of a run were read again.
    pub(super) fn set_epochs(&self, run: RunName, epochs: Vec<EpochSummary>) {
        let mut inner = self.lock();
        inner.unwritten.to_reread.remove(&run);
        inner.update(Update::Reread(run, epochs));
    }

    /// The ensemble is evaluated.
    pub(super) fn evaluated(&self, report: EvaluationReport) {
        self.lock().update(Update::Evaluated(Box::new(report)));
    }

    /// Takes the events that the store is yet to have.
    pub(super) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.lock().unwritten.events)
    }

    /// A run whose epochs are to be read again.
    pub(super) fn to_reread(&self) -> Option<RunName> {
        self.lock().unwritten.to_reread.first().cloned()
    }

    /// Whether there is something that the store is to have soon.
    pub(super) fn is_urgent(&self) -> bool {
        !self.lock().unwritten.can_wait()
    }

    /// Whether the store has all.
    pub(super) fn is_written(&self) -> bool {
        self.lock().unwritten.is_empty()
    }

    /// Resolves when something has come since the last call.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }
}

impl Inner {
    fn update(&mut self, update: Update) {
        match &mut self.record {
            Some(record) => record.apply(update),
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
        history.add_all(vec![joined("first")]);
        for _ in 0..MAX_UNWRITTEN {
            history.add(joined("another"));
        }
        let unwritten = history.take_events();
        assert_eq!(unwritten.len(), MAX_UNWRITTEN);
        assert!(
            unwritten
                .iter()
                .all(|event| event.what == joined("another"))
        );
    }
}
