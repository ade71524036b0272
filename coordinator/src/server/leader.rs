//! What this process does for an experiment that it leads, from its opening to its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use quartet_shared::event::Occurrence;
use quartet_shared::label::{self, MAX_REASON};
use quartet_shared::report::EvaluationReport;
use quartet_shared::shutdown::Shutdown;
use quartet_shared::state::ExperimentState;
use tokio::sync::watch;

use super::clock::PULSE;
use super::driver;
use super::last_calls::close_term;
use super::recorder::Recorder;
use super::registry::Registry;
use super::shell::Shell;
use super::timing::Timing;
use crate::experiment::{self, Experiment};
use crate::scheduler::{Config, DrainCause, RunSettings, Scheduler};

/// How long workers may take to leave after the experiment has ended.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often a coordinator that has nothing to write verifies that it is still the leader.
pub(super) const LEADERSHIP_INTERVAL: Duration = Duration::from_secs(5);
/// How long the store may take to answer until people hear of it: its client tries for minutes.
const SILENCE: Duration = Duration::from_secs(5);

/// People are told of a task without progress after this fraction of the progress timeout.
const STALLS_BEFORE_TIMEOUT: u32 = 10;

/// How this process's part in an experiment ended.
#[derive(Debug)]
pub enum ExperimentEnd {
    /// The ensemble is evaluated.
    Finished(Box<EvaluationReport>),
    /// At least one task failed for good.
    Failed {
        /// What failed and why, a line each.
        reasons: Vec<String>,
        /// The evaluation of what did not fail, if there is one.
        report: Option<Box<EvaluationReport>>,
    },
    /// A signal stopped the coordinator; started again, it goes on.
    Interrupted,
}

/// Why a coordinator stops before the end.
fn why_stopped(interrupted: bool, error: Option<&anyhow::Error>) -> Option<String> {
    match (interrupted, error) {
        (_, Some(error)) => Some(label::shortened(&format!("{error:#}"), MAX_REASON)),
        (true, None) => Some("it was told to".to_owned()),
        (false, None) => None,
    }
}

/// An experiment that this process is about to lead.
pub(super) struct Leader {
    pub(super) shell: Arc<Shell>,
    timing: Timing,
}

impl Leader {
    /// Reads from the store how far the experiment is.
    pub(super) async fn new(
        experiment: Experiment,
        workers_expected: u32,
        timing: Timing,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let spec = &experiment.spec.experiment;
        let runs = RunSettings::of(spec);
        let history = experiment::read_history(&experiment).await?;
        let config = Config {
            workers_expected,
            lease: timing.lease,
            reattach_grace: timing.reattach_grace,
            progress_timeout: timing.progress_timeout,
            stall_after: timing.progress_timeout / STALLS_BEFORE_TIMEOUT,
            ensemble: spec.ensemble,
            ..Config::default()
        };
        let scheduler = Scheduler::new(experiment.id.clone(), config, runs, history);
        let report = experiment.evaluation().await?;
        let shell = Shell::new(experiment, scheduler, registry);
        if let Some(report) = report {
            shell.conclusion.set_report(report);
        }
        Ok(Self {
            shell: Arc::new(shell),
            timing,
        })
    }

    /// Leads the experiment, which is open, until it has ended, `stop` is asked for, or this coordinator
    /// cannot go on. Workers are not served any more then.
    ///
    /// # Errors
    /// The store has failed permanently, or a newer coordinator leads the experiment
    /// ([`Replaced`](crate::leadership::Replaced)).
    pub(super) async fn run(&self, stop: &Shutdown) -> anyhow::Result<ExperimentEnd> {
        let recorder = Recorder::start(&self.shell);
        let interrupted = tokio::select! {
            biased;
            () = self.lead() => false,
            () = async { stop.triggered().await; self.drain().await } => true,
        };
        let error = self.shell.conclusion.take_error();
        if let Some(reason) = why_stopped(interrupted, error.as_ref()) {
            self.shell
                .history
                .add(Occurrence::CoordinatorStopped { reason });
        }
        if !interrupted && error.is_none() {
            self.farewell().await;
        }
        self.shell.connections.close();
        // The next coordinator, which may begin when the term is closed, reads what is written here.
        recorder.finish().await;
        if error.is_none() {
            self.close_term().await;
        }
        match error {
            Some(error) => Err(error),
            None if interrupted => Ok(ExperimentEnd::Interrupted),
            None => self.result(),
        }
    }

    /// Drives the experiment to its end, or until this coordinator cannot go on or is not the leader any
    /// more.
    async fn lead(&self) {
        let watch = async {
            loop {
                tokio::time::sleep(LEADERSHIP_INTERVAL).await;
                let mut verified = pin!(self.shell.verify_leadership());
                let in_time = tokio::time::timeout(SILENCE, &mut verified).await;
                // A store that fails for a while is no reason to stop.
                if in_time.is_err() {
                    self.shell.store_is_silent(SILENCE);
                    let _ = verified.await;
                }
            }
        };
        tokio::select! {
            biased;
            () = driver::drive(&self.shell) => {}
            () = watch => {}
        }
    }

    /// Has all workers hand their tasks back and leave this coordinator.
    async fn drain(&self) {
        let mut changes = self.shell.scheduler.changes();
        self.shell.connections.stop();
        self.shell.drain_all(DrainCause::CoordinatorStops);
        self.wait_for_workers(&mut changes, self.timing.drain_grace)
            .await;
    }

    /// Tells all workers that the experiment has ended, and waits until they have gone.
    async fn farewell(&self) {
        let mut changes = self.shell.scheduler.changes();
        for worker in self.shell.connections.workers() {
            self.shell.connections.dismiss(&worker);
        }
        self.wait_for_workers(&mut changes, FAREWELL).await;
    }

    async fn wait_for_workers(&self, changes: &mut watch::Receiver<u64>, limit: Duration) {
        let gone = async {
            while self.shell.connections.has_workers() {
                tokio::select! {
                    biased;
                    changed = changes.changed() => if changed.is_err() { return },
                    // The driver, which reads the clock otherwise, has ended.
                    () = tokio::time::sleep(PULSE) => self.shell.scheduler.with(|_, _| ()),
                }
            }
        };
        if tokio::time::timeout(limit, gone).await.is_err() {
            tracing::warn!("some workers did not leave in time");
        }
    }

    /// Records that no lease is held, if so, so that the next coordinator need not wait for returning
    /// workers.
    async fn close_term(&self) {
        if self
            .shell
            .scheduler
            .read(|scheduler, _| scheduler.has_leases())
        {
            return;
        }
        close_term(|| self.shell.experiment.close_term()).await;
    }

    fn result(&self) -> anyhow::Result<ExperimentEnd> {
        let ended = |scheduler: &Scheduler| (scheduler.experiment_state(), scheduler.failures());
        if let (ExperimentState::Failed, reasons) =
            self.shell.scheduler.read(|scheduler, _| ended(scheduler))
        {
            let report = self.shell.conclusion.report().cloned().map(Box::new);
            return Ok(ExperimentEnd::Failed { reasons, report });
        }
        let report = self
            .shell
            .conclusion
            .report()
            .context("the experiment ended without an evaluation")?;
        Ok(ExperimentEnd::Finished(Box::new(report.clone())))
    }
}
