//! What follows from the history and from predictions, and is kept beside them: TensorBoard's event files,
//! the table of predictions, and the report.

use std::collections::BTreeMap;

use quartet_history::predictions::{PredictionsError, PredictionsReader, write_table};
use quartet_history::{ExperimentRecord, RunRecord};
use quartet_report::Findings;
use quartet_shared::blocking;
use quartet_shared::clock::Timestamp;
use quartet_shared::dataset::Split;
use quartet_shared::ids::{Epoch, RunName};
use quartet_status::stored::{findings_of, or_missing};
use quartet_store::StoreError;
use quartet_store::layout::Results;
use quartet_tensorboard::{EventFiles, File};

use crate::experiment::Experiment;
use crate::leadership::LeadershipError;
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

/// Writes what there is to be had of an evaluated experiment: all predictions as a table, and the report.
pub(super) async fn write_results(
    shell: &Shell,
    record: &ExperimentRecord,
) -> Result<(), StoreError> {
    let Some(report) = &record.report else {
        return Ok(());
    };
    // One of an earlier coordinator is of the past.
    if report.partial.is_some() && shell.conclusion.report().is_none() {
        return Ok(());
    }
    let Experiment { store, layout, .. } = &shell.experiment;
    let results = layout.results_of(report);
    let has_table = store.exists(&results.predictions_table()).await?;
    if has_table && store.exists(&results.report()).await? {
        return Ok(());
    }
    // Where it has been replaced, the results are not those of the experiment any more.
    match shell.experiment.verify_leadership().await {
        Ok(()) => {}
        Err(LeadershipError::Replaced(_)) => return Ok(()),
        Err(LeadershipError::Store(error)) => return Err(error),
    }
    let written = write_predictions(shell, record, &results).await;
    match written {
        Err(PredictionsError::Store(error)) if !error.is_permanent() => return Err(error),
        Err(ref error) => {
            tracing::warn!(%error, "there is no predictions.csv, and the report lacks what they tell");
        }
        Ok(_) => {}
    }
    let mut record = record.clone();
    let findings = or_missing(written, &mut record);
    let made = move || quartet_report::html(&record, &findings, Timestamp::now());
    match blocking::run(made).await {
        Ok(report) => {
            store.create(&results.report(), report.into()).await?;
        }
        Err(error) => tracing::error!(%error, "the report cannot be made"),
    }
    Ok(())
}

/// Writes the predictions as a table, and returns what they tell.
async fn write_predictions(
    shell: &Shell,
    record: &ExperimentRecord,
    results: &Results,
) -> Result<Vec<Findings>, PredictionsError> {
    let store = &shell.experiment.store;
    let Some(reader) = PredictionsReader::open(store, record).await? else {
        return Ok(Vec::new());
    };
    write_table(&reader, &results.predictions_table()).await?;
    findings_of(&reader).await
}
