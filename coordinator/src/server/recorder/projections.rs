//! What follows from the history alone, and is kept beside it: TensorBoard's event files, and the report.

use std::collections::BTreeMap;

use quartet_history::{ExperimentRecord, RunRecord, Standing};
use quartet_shared::blocking;
use quartet_shared::clock::Timestamp;
use quartet_shared::dataset::Split;
use quartet_shared::ids::{Epoch, RunName};
use quartet_store::StoreError;
use quartet_tensorboard::{EventFiles, File};

use crate::server::shell::Shell;

/// Which event files the store has.
#[derive(Default)]
pub(super) struct Written {
    /// Whether all that there were at the start have been looked for.
    is_complete: bool,
    /// The last epoch of each run, and whether its end is written.
    runs: BTreeMap<RunName, (Epoch, bool)>,
}

impl Written {
    /// Creates the event files that are new. A coordinator that has just started looks for all of them.
    pub(super) async fn update(
        &mut self,
        shell: &Shell,
        record: &ExperimentRecord,
    ) -> Result<(), StoreError> {
        let store = &shell.experiment.store;
        // It has been logged.
        let Ok(data) = shell.dataset().await else {
            return Ok(());
        };
        let images = data.split(Split::Train).iter().sum();
        if !self.is_complete {
            quartet_tensorboard::write_missing(store, record, images).await?;
            self.is_complete = true;
            for run in &record.runs {
                self.runs.insert(run.spec.name.clone(), state(run));
            }
            return Ok(());
        }
        let files = EventFiles::new(&record.spec, images);
        for run in &record.runs {
            let known = self.runs.get(&run.spec.name).copied().unwrap_or_default();
            let new = new_files(&files, record, run, known);
            quartet_tensorboard::write(store, new).await?;
            self.runs.insert(run.spec.name.clone(), state(run));
        }
        Ok(())
    }
}

fn state(run: &RunRecord) -> (Epoch, bool) {
    let last = run.epochs.last().map_or(Epoch(0), |epoch| epoch.epoch);
    (last, run.outcome.is_some() || run.failure.is_some())
}

fn new_files(
    files: &EventFiles<'_>,
    record: &ExperimentRecord,
    run: &RunRecord,
    (last, ended): (Epoch, bool),
) -> Vec<File> {
    let epochs = run.epochs.iter().filter(|epoch| epoch.epoch > last);
    let mut new: Vec<File> = epochs
        .flat_map(|epoch| files.epoch(&run.spec, epoch))
        .collect();
    if !ended {
        new.extend(files.end(run, &record.events));
    }
    new
}

/// Writes the report of a finished experiment.
pub(super) async fn write_report(
    shell: &Shell,
    record: &ExperimentRecord,
) -> Result<(), StoreError> {
    if record.standing() != Standing::Finished {
        return Ok(());
    }
    let record = record.clone();
    let made = move || quartet_report::html(&record, &[], Timestamp::now());
    match blocking::run(made).await {
        Ok(report) => {
            let key = shell.experiment.layout.report();
            shell.experiment.store.create(&key, report.into()).await?;
        }
        Err(error) => tracing::error!(%error, "the report cannot be made"),
    }
    Ok(())
}
