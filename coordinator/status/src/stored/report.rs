//! `status report`, and what predictions tell, from the store.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use quartet_history::ExperimentRecord;
use quartet_history::predictions::{PredictionsError, PredictionsReader};
use quartet_report::findings::Picture;
use quartet_report::{Findings, Observer};
use quartet_shared::clock::Timestamp;
use quartet_shared::dataset::Split;
use quartet_store::Store;

use super::{StoredError, open, remark};

/// Pixels of a PNG figure for each of the figure's own.
const PNG_SCALE: f32 = 2.0;

/// Writes the report of an experiment, and its figures as PNG files if a folder for them is given. Where they
/// lie is said on `out`, unless the report itself goes there.
///
/// # Errors
/// The experiment cannot be read, or a file cannot be written.
pub async fn report(
    place: &str,
    file: &Path,
    png: Option<&Path>,
    mut out: impl Write,
    mut err: impl Write,
) -> Result<(), StoredError> {
    let (store, mut record) = open(place).await?;
    let findings = findings(&store, &mut record).await;
    remark(&record, &mut err)?;
    let report = quartet_report::html(&record, &findings, Timestamp::now());
    let to_stdout = file == Path::new("-");
    match to_stdout {
        true => out.write_all(report.as_bytes())?,
        false => {
            write_file(file, report.as_bytes())?;
            writeln!(out, "{}", file.display())?;
        }
    }
    let Some(folder) = png else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|source| StoredError::file(folder, source))?;
    for figure in quartet_report::figures(&record, &findings) {
        let picture = quartet_report::titled_png(&figure, PNG_SCALE)?;
        let path = folder.join(figure.name).with_added_extension("png");
        write_file(&path, &picture)?;
        if !to_stdout {
            writeln!(out, "{}", path.display())?;
        }
    }
    Ok(())
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), StoredError> {
    std::fs::write(path, bytes).map_err(|source| StoredError::file(path, source))
}

/// What the predictions of an ensemble tell of each evaluated split; nothing before the evaluation. If they
/// cannot be read, the record says so.
pub async fn findings(store: &Store, record: &mut ExperimentRecord) -> Vec<Findings> {
    let found = match PredictionsReader::open(store, record).await {
        Ok(Some(reader)) => findings_of(&reader).await,
        Ok(None) => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    or_missing(found, record)
}

/// What was found; or nothing, and the record says why.
pub fn or_missing(
    found: Result<Vec<Findings>, PredictionsError>,
    record: &mut ExperimentRecord,
) -> Vec<Findings> {
    found.unwrap_or_else(|error| {
        let missing = format!("calibration and worst mistakes: {error}");
        record.unreadable.push(missing);
        Vec::new()
    })
}

/// What the predictions that a reader gives tell.
///
/// # Errors
/// The predictions cannot be read.
pub async fn findings_of(reader: &PredictionsReader) -> Result<Vec<Findings>, PredictionsError> {
    let observers = reader.splits().map(|split| (split, Observer::new(split)));
    let mut observers: BTreeMap<Split, Observer> = observers.collect();
    for block in reader.blocks() {
        let block = reader.block(block).await?;
        if let Some(observer) = observers.get_mut(&block.split) {
            for (label, probabilities) in block.rows() {
                observer.see(label, probabilities);
            }
        }
    }
    let mut findings: Vec<Findings> = observers.into_values().map(Observer::finish).collect();
    let shape = reader.image_shape();
    for Findings { split, worst, .. } in &mut findings {
        for mistake in worst {
            mistake.picture = Some(Picture {
                shape,
                pixels: reader.image(*split, mistake.image).await?,
            });
        }
    }
    Ok(findings)
}
