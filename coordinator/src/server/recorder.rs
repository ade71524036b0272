//! Writes what is new of the history to the store: events, and what follows from committed epochs. It runs
//! beside the experiment and holds nothing up.

mod projections;

use std::sync::Arc;
use std::time::Duration;

use quartet_shared::event::{Event, Occurrence};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::last_calls::LAST_PAUSE;
use super::shell::Shell;
use projections::{Written, write_results};
use quartet_history::{ExperimentRecord, HistoryError};
use quartet_store::StoreError;

/// How long events are gathered before they are written.
const GATHER: Duration = Duration::from_secs(1);
/// The same of events of the fleet alone, of which there can be many.
const GATHER_FLEET: Duration = Duration::from_secs(30);
/// Wait after a failure of the store.
const PAUSE: Duration = Duration::from_secs(5);
/// How long the last writes may take.
const LAST_WRITES: Duration = Duration::from_secs(5);
/// The same once the ensemble is evaluated: its predictions are read and written.
const LAST_RESULTS: Duration = Duration::from_secs(60);
/// How long one of them that fails is tried again.
const LAST_TRIES: Duration = Duration::from_secs(4);

/// Writes what is new of the history to the store, until it is told to finish.
pub(super) struct Recorder {
    shell: Arc<Shell>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), HistoryError>>,
}

impl Recorder {
    /// Begins with the start of this coordinator.
    pub(super) fn start(shell: &Arc<Shell>) -> Self {
        shell.history.add(Occurrence::CoordinatorStarted {
            term: shell.experiment.term,
            host: quartet_shared::host::name(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        let stop = CancellationToken::new();
        let writer = Writer {
            shell: Arc::clone(shell),
            stop: stop.clone(),
            lists: 0,
            unwritten: None,
            event_files: Written::default(),
            version: None,
        };
        Self {
            shell: Arc::clone(shell),
            stop,
            task: tokio::spawn(writer.run()),
        }
    }

    /// Writes what is left, and ends.
    pub(super) async fn finish(mut self) {
        self.stop.cancel();
        let limit = match self.shell.conclusion.report() {
            Some(_) => LAST_RESULTS,
            None => LAST_WRITES,
        };
        let reason = match tokio::time::timeout(limit, &mut self.task).await {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(panic)) => panic.to_string(),
            Err(_) => {
                self.task.abort();
                "it is too slow".to_owned()
            }
        };
        tracing::warn!(
            reason,
            "the store does not take all of the history: its last events, event files or predictions.csv may \
             be missing; `status report` makes the report"
        );
    }
}

struct Writer {
    shell: Arc<Shell>,
    stop: CancellationToken,
    /// Lists of events that are in the store.
    lists: u32,
    /// A list that was not written, or whose answer was lost.
    unwritten: Option<Vec<Event>>,
    /// TensorBoard's event files that are written.
    event_files: Written,
    /// The version of the history that all is written of.
    version: Option<u64>,
}

impl Writer {
    /// Writes until it is told to stop, and then what is left.
    ///
    /// # Errors
    /// The store does not take what is left.
    async fn run(mut self) -> Result<(), HistoryError> {
        self.read().await;
        let mut failed = false;
        loop {
            if !failed {
                self.gather().await;
            }
            if self.stop.is_cancelled() {
                return self.write_last().await;
            }
            let written = self.write().await;
            failed = written.is_err();
            if let Err(error) = written {
                tracing::debug!(%error, "the store does not take the history; trying again");
                self.pause(PAUSE).await;
            }
        }
    }

    /// Writes what is left. A store that fails is asked again for a moment.
    ///
    /// # Errors
    /// It fails for longer, or for good.
    async fn write_last(&mut self) -> Result<(), HistoryError> {
        let mut failing: Option<Instant> = None;
        loop {
            match self.try_last().await {
                Ok(()) if self.is_written() => return Ok(()),
                Ok(()) => failing = None,
                Err(error) => {
                    let since = *failing.get_or_insert_with(Instant::now);
                    let is_passing =
                        matches!(&error, HistoryError::Store(error) if !error.is_permanent());
                    if !is_passing || since.elapsed() > LAST_TRIES {
                        return Err(error);
                    }
                    tokio::time::sleep(LAST_PAUSE).await;
                }
            }
        }
    }

    /// Writes what is left, and reads the record if there was no time for that.
    async fn try_last(&mut self) -> Result<(), HistoryError> {
        self.write().await?;
        match self.shell.history.record() {
            Some(_) => Ok(()),
            None => self.try_read().await,
        }
    }

    fn is_written(&self) -> bool {
        let history = &self.shell.history;
        history.is_written() && self.version == Some(history.version())
    }

    /// Reads the record, however often it takes.
    async fn read(&mut self) {
        loop {
            match self.try_read().await {
                Ok(()) => return,
                Err(HistoryError::Store(error)) => {
                    tracing::debug!(%error, "the history cannot be read; trying again");
                }
                Err(error) => tracing::warn!(%error, "the history cannot be read; trying again"),
            }
            if self.stop.is_cancelled() {
                return;
            }
            self.pause(PAUSE).await;
        }
    }

    async fn try_read(&self) -> Result<(), HistoryError> {
        let experiment = &self.shell.experiment;
        let (name, term) = (&experiment.spec.experiment.name, experiment.term);
        let record = quartet_history::read_before(&experiment.store, name, Some(term)).await?;
        for reason in &record.unreadable {
            tracing::warn!("missing in the history: {reason}");
        }
        // The coordinator that has changed it may have been killed before it told.
        self.tell_revision(&record);
        self.shell.history.set(record);
        Ok(())
    }

    /// Notes the change that has made the experiment what it is, unless the history has it.
    fn tell_revision(&self, record: &ExperimentRecord) {
        let Some(revised) = &record.spec.revised else {
            return;
        };
        let revision = revised.revision;
        let mut told = record.events.iter().filter_map(|event| match event.what {
            Occurrence::Revised { revision, .. } => Some(revision),
            _ => None,
        });
        if !told.any(|told| told == revision) {
            self.shell.history.add(Occurrence::Revised {
                revision,
                changes: revised.changes.clone(),
            });
        }
    }

    async fn pause(&self, pause: Duration) {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// Resolves when something is to be written.
    async fn gather(&self) {
        let history = &self.shell.history;
        while self.is_written() && self.unwritten.is_none() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = history.news() => {}
            }
        }
        let urgent = async {
            while !history.is_urgent() {
                history.news().await;
            }
            tokio::time::sleep(GATHER).await;
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = urgent => {}
            () = tokio::time::sleep(GATHER_FLEET) => {}
        }
    }

    async fn write(&mut self) -> Result<(), StoreError> {
        self.write_events().await?;
        let events = self.shell.history.take_events();
        self.unwritten = Some(events).filter(|events| !events.is_empty());
        self.write_events().await?;
        while let Some(run) = self.shell.history.take_to_reread() {
            let experiment = &self.shell.experiment;
            let read = quartet_history::read_epochs(
                &experiment.store,
                &experiment.layout,
                &run,
                experiment.spec.begun(&run),
            );
            match read.await {
                Ok(epochs) => self.shell.history.set_epochs(run, epochs),
                Err(error) => {
                    self.shell.history.reread(&run);
                    return Err(error);
                }
            }
        }
        let version = self.shell.history.version();
        if let Some(record) = self.shell.history.record() {
            self.event_files.update(&self.shell, &record).await?;
            if self.stop.is_cancelled() {
                write_results(&self.shell, &record).await?;
            }
        }
        self.version = Some(version);
        Ok(())
    }

    /// Writes the list of events that is left over. If it is there already, a first try was written although
    /// it was reported as failed.
    async fn write_events(&mut self) -> Result<(), StoreError> {
        let Some(events) = &self.unwritten else {
            return Ok(());
        };
        let experiment = &self.shell.experiment;
        let key = experiment.layout.events(experiment.term, self.lists + 1);
        experiment.store.create_json(&key, events).await?;
        self.lists += 1;
        self.unwritten = None;
        Ok(())
    }
}
