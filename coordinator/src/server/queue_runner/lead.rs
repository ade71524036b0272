//! How an entry of the queue is led to its end.

use quartet_ingest::data::Source;
use quartet_ingest::weights::DownloadProgress;
use quartet_shared::ids::ExperimentName;
use quartet_shared::label::{self, MAX_REASON};
use quartet_shared::report::EvaluationReport;
use quartet_shared::shutdown::Shutdown;
use quartet_shared::terminal::Mode;
use quartet_store::layout::Layout;
use quartet_store::spec::newest_spec;
use quartet_store::{Store, StoreError};

use super::{Contact, News, PAUSE, QueueRunner};
use crate::experiment::{self, Experiment, Request};
use crate::leadership::{LeadershipError, OtherLeader, Replaced};
use crate::queue::How;
use crate::server::last_calls::LAST_CALLS;
use crate::server::leader::{ExperimentEnd, Leader};

/// What came of an attempt to lead an experiment.
enum Outcome {
    Ended(How, String, Option<Box<EvaluationReport>>),
    /// It was told to stop.
    Interrupted,
}

impl QueueRunner {
    /// Leads an experiment to its end, and records that.
    pub(super) async fn lead(
        &self,
        number: u32,
        experiment: &ExperimentName,
        stop: &Shutdown,
    ) -> anyhow::Result<()> {
        let (how, reason, report) = loop {
            // It was cancelled before anybody could stop it.
            if self.queue.has_ended(number) {
                return Ok(());
            }
            match self.try_lead(number, experiment, stop).await {
                Ok(Outcome::Ended(how, reason, report)) => break (how, reason, report),
                Ok(Outcome::Interrupted) => return Ok(()),
                Err(error) if is_passing(&error) => {
                    let shown = format!("{error:#}");
                    tracing::error!(%experiment, error = shown, "the store failed; trying again");
                    // The others need not wait for that. Workers do that may hold its leases.
                    self.led().opening.remove(&number);
                }
                // It steps down once it hears of this one; or it is of this experiment alone, and ends with
                // it.
                Err(error) if error.is::<OtherLeader>() || error.is::<Replaced>() => {
                    let shown = error.to_string();
                    tracing::warn!(%experiment, error = shown, "waiting until it ends");
                    self.led().opened(number);
                }
                Err(error) if is_of_store(&error) => {
                    // Of a part of the store that belongs to this experiment alone, the others know nothing.
                    let is_write = |error: &StoreError| error.is_of_write();
                    let is_whole = error.downcast_ref().is_some_and(is_write);
                    if is_whole || self.queue.verify_leadership().await.is_err() {
                        return Err(error);
                    }
                    break (How::Failed, format!("{error:#}"), None);
                }
                // The others are none the worse for it.
                Err(error) => break (How::Failed, format!("{error:#}"), None),
            }
            self.registry.changed.notify_one();
            tokio::select! {
                biased;
                () = stop.triggered() => return Ok(()),
                () = tokio::time::sleep(PAUSE) => {}
            }
        };
        let reason = label::shortened(&label::one_line(&reason), MAX_REASON);
        let is_this = loop {
            let stopped = async {
                stop.triggered().await;
                tokio::time::sleep(LAST_CALLS).await;
            };
            let ended = tokio::select! {
                biased;
                ended = self.queue.end(number, how, &reason) => ended,
                // The next coordinator finds out for itself.
                () = stopped => return Ok(()),
            };
            match ended {
                Ok(is_this) => break is_this,
                Err(LeadershipError::Store(error)) if !error.is_permanent() => {
                    tracing::error!(%error, "the store failed; trying again");
                }
                Err(error) => return Err(error.into()),
            }
            tokio::select! {
                biased;
                () = stop.triggered() => return Ok(()),
                () = tokio::time::sleep(PAUSE) => {}
            }
        };
        // It may have been cancelled in the last moment, of which people have heard.
        if !is_this {
            return Ok(());
        }
        self.tell(News::Ended {
            experiment: experiment.clone(),
            how,
            reason,
            report,
        });
        Ok(())
    }

    /// Leads an experiment until it has ended or is to stop.
    ///
    /// # Errors
    /// The store fails, or the experiment cannot be led.
    async fn try_lead(
        &self,
        number: u32,
        experiment: &ExperimentName,
        stop: &Shutdown,
    ) -> anyhow::Result<Outcome> {
        let store = self.queue.store();
        let opened = tokio::select! {
            biased;
            () = stop.triggered() => return Ok(Outcome::Interrupted),
            opened = self.open(store, experiment) => opened?,
        };
        let leader = match opened {
            Opened::Leader(leader) => leader,
            Opened::Finished(report) => {
                return Ok(Outcome::Ended(How::Finished, String::new(), Some(report)));
            }
        };
        let shell = &leader.shell;
        let order = self.queue.waiting();
        let place = |name: &ExperimentName| order.iter().position(|(_, e)| e.experiment == *name);
        self.registry
            .open(shell, |other| place(other) < place(experiment));
        self.led().opened(number);
        self.tell(News::Began {
            experiment: experiment.clone(),
            runs: shell.experiment.spec.experiment.runs.len(),
        });
        let ended = leader.run(stop).await;
        self.registry.close(shell);
        Ok(match ended? {
            ExperimentEnd::Finished(report) => {
                Outcome::Ended(How::Finished, String::new(), Some(report))
            }
            ExperimentEnd::Failed { reasons, report } => {
                Outcome::Ended(How::Failed, reasons.join("; "), report)
            }
            ExperimentEnd::Interrupted => Outcome::Interrupted,
        })
    }

    async fn open(&self, store: &Store, experiment: &ExperimentName) -> anyhow::Result<Opened> {
        let layout = Layout::new(experiment.clone());
        let Some(stored) = newest_spec(store, &layout).await? else {
            let location = store.location();
            anyhow::bail!("{location} has no experiment {experiment} any more");
        };
        let Contact {
            address,
            connector,
            plain_connector,
        } = self.contact.clone();
        let mut request = Request::new(stored.experiment, Source::Synthetic, address, connector);
        request.plain_connector = plain_connector;
        if let Some(report) = experiment::finished(store, &request).await? {
            return Ok(Opened::Finished(Box::new(report)));
        }
        let mut progress = DownloadProgress::new(Box::new(std::io::sink()), Mode::Lines);
        let experiment = Experiment::open(store.clone(), request, &mut progress).await?;
        let registry = &self.registry;
        let leader = Leader::new(experiment, self.workers_expected, self.timing, registry).await?;
        Ok(Opened::Leader(leader))
    }
}

/// What opening an experiment has led to.
enum Opened {
    Leader(Leader),
    /// Nothing is left to be done.
    Finished(Box<EvaluationReport>),
}

/// Whether the store fails in a way that may pass.
fn is_passing(error: &anyhow::Error) -> bool {
    // What should be there and is not does not come back.
    let is_missing = |error: &StoreError| matches!(error, StoreError::NotFound { .. });
    let store = |error: &StoreError| !error.is_permanent() && !is_missing(error);
    error.downcast_ref().is_some_and(store)
        || matches!(error.downcast_ref(), Some(LeadershipError::Store(error)) if store(error))
}

/// Whether nothing can be done with the store.
fn is_of_store(error: &anyhow::Error) -> bool {
    let store = |error: &StoreError| error.is_permanent() && !error.is_of_content();
    error.downcast_ref().is_some_and(store)
}
