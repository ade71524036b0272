//! Experiments as their store has them, without a coordinator: `status list`, `show`, `compare` and `report`.
//!
//! - `place`: what the user names: a store, or an experiment in it
//! - `table`: rows for people, as CSV and as JSON
//! - `list`, `show`, `compare`: the commands; pure functions from records to tables and text
//! - `report`: the report, with what predictions tell

mod compare;
mod list;
mod place;
mod report;
mod show;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::Path;

use clap::Args;
use quartet_history::{ExperimentRecord, HistoryError};
use quartet_shared::clock::Timestamp;
use quartet_shared::ids::ExperimentName;
use quartet_shared::label::one_line;
use quartet_store::layout::Layout;
use quartet_store::{Store, StoreError};

pub use place::{InvalidPlace, Place};
pub use report::{findings, findings_of, or_missing, report};

/// Where the coordinator keeps experiments unless it is told otherwise.
pub const DEFAULT_STORE: &str = "./runs";

/// In which form something is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// JSON.
    Json,
    /// Comma-separated values, with a header.
    Csv,
}

/// The flags that choose a [`Format`].
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct FormatFlags {
    /// JSON instead of tables.
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Comma-separated values instead of tables.
    #[arg(long)]
    pub csv: bool,
}

impl From<FormatFlags> for Format {
    fn from(flags: FormatFlags) -> Self {
        match (flags.json, flags.csv) {
            (true, _) => Self::Json,
            (_, true) => Self::Csv,
            _ => Self::Text,
        }
    }
}

/// Why a store cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// An argument names no place.
    #[error(transparent)]
    Place(#[from] InvalidPlace),
    /// There is no such experiment, or the store fails.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The store cannot be opened or fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A store was wanted, and this is an experiment in one.
    #[error("{0} is an experiment: `status show {0}` shows it")]
    IsExperiment(String),
    /// An experiment was wanted, and this is a store.
    #[error(
        "{store} is a store: `status list {store}` lists its experiments, {store}/{first} is one"
    )]
    IsStore {
        /// The store.
        store: String,
        /// An experiment in it.
        first: ExperimentName,
    },
    /// Where the user is there is no such experiment, but in the usual store there is.
    #[error("there is no experiment {name} here; there is {place}")]
    Elsewhere {
        /// What was asked for.
        name: String,
        /// Where it is.
        place: String,
    },
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// A file cannot be written.
    #[error("cannot write {path}: {reason}")]
    File {
        /// The file, or the folder.
        path: String,
        /// Why.
        reason: io::Error,
    },
    /// There is no such run or attempt.
    #[error("{0}")]
    NoSuch(String),
    /// A figure cannot be drawn.
    #[error(transparent)]
    Png(#[from] quartet_report::PngError),
}

impl StoredError {
    fn file(path: &Path, reason: io::Error) -> Self {
        let path = path.display().to_string();
        Self::File { path, reason }
    }

    /// Whether other arguments would help.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Place(_)
                | Self::NoSuch(_)
                | Self::IsExperiment(_)
                | Self::IsStore { .. }
                | Self::Elsewhere { .. }
                | Self::History(HistoryError::Missing { .. })
                | Self::Store(StoreError::Location { .. })
        )
    }
}

/// Lists the experiments of a store that have all of some tags, as they are at the time `now`. Objects that
/// cannot be read are named on `err`.
///
/// # Errors
/// The store cannot be read, or the output cannot be written.
pub async fn list(
    store: &str,
    tags: &[String],
    format: Format,
    width: u16,
    now: Timestamp,
    mut out: impl Write,
    mut err: impl Write,
) -> Result<(), StoredError> {
    let store = Store::open_existing(store)?;
    let mut records = Vec::new();
    // One that cannot be read does not hide the others.
    let mut unreadable = None;
    for name in quartet_history::experiments(&store).await? {
        match quartet_history::read(&store, &name).await {
            Ok(record) => {
                if tags.iter().all(|tag| record.spec.tags.contains(tag)) {
                    remark(&record, &mut err)?;
                    records.push(record);
                }
            }
            Err(HistoryError::Store(error)) if error.is_of_content() => unreadable = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    if records.is_empty() && unreadable.is_none() {
        let location = store.location();
        if store.exists("spec.json").await? {
            return Err(StoredError::IsExperiment(location.to_string()));
        }
        if format == Format::Text {
            let such = match tags {
                [] => String::new(),
                tags => format!(" with the tag {}", tags.join(" and ")),
            };
            return Ok(writeln!(out, "{location} has no experiments{such}")?);
        }
    }
    // The newest first.
    records.sort_by_key(|record| std::cmp::Reverse(record.began_at()));
    let table = list::table(&records, now);
    out.write_all(table.render(format, width).as_bytes())?;
    unreadable.map_or(Ok(()), |error| Err(error.into()))
}

/// Shows one experiment.
///
/// # Errors
/// It cannot be read, or the output cannot be written.
pub async fn show(
    place: &str,
    format: Format,
    width: u16,
    mut out: impl Write,
    mut err: impl Write,
) -> Result<(), StoredError> {
    let record = read(place).await?;
    // The others say it themselves.
    if format == Format::Csv {
        remark(&record, &mut err)?;
    }
    let shown = match format {
        Format::Text => show::text(&record, Timestamp::now(), width),
        Format::Json => show::json(&record),
        Format::Csv => show::epochs(&record).render(format, width),
    };
    Ok(out.write_all(shown.as_bytes())?)
}

/// Compares experiments.
///
/// # Errors
/// One cannot be read, or the output cannot be written.
pub async fn compare(
    places: &[String],
    format: Format,
    width: u16,
    mut out: impl Write,
    mut err: impl Write,
) -> Result<(), StoredError> {
    let mut records = Vec::with_capacity(places.len());
    for place in places {
        let record = read(place).await?;
        remark(&record, &mut err)?;
        records.push(record);
    }
    let table = compare::table(&records, places);
    Ok(out.write_all(table.render(format, width).as_bytes())?)
}

/// Names what is missing in a record.
fn remark(record: &ExperimentRecord, mut err: impl Write) -> io::Result<()> {
    for reason in &record.unreadable {
        writeln!(err, "missing here: {}", one_line(reason))?;
    }
    Ok(())
}

async fn read(place: &str) -> Result<ExperimentRecord, StoredError> {
    Ok(open(place).await?.1)
}

async fn open(place: &str) -> Result<(Store, ExperimentRecord), StoredError> {
    let (store, experiment) = locate(place).await?;
    let record = quartet_history::read(&store, &experiment).await?;
    Ok((store, record))
}

/// The store and the name of what the user calls an experiment.
pub(crate) async fn locate(place: &str) -> Result<(Store, ExperimentName), StoredError> {
    let Place { store, experiment } = place.parse()?;
    let store = Store::open_existing(&store)?;
    let spec = Layout::new(experiment.clone()).spec();
    if store.exists(&spec).await? {
        return Ok((store, experiment));
    }
    // A name alone, as `coordinator --name` takes it.
    if place == experiment.as_str() && is_usual(place).await {
        return Err(StoredError::Elsewhere {
            name: place.to_owned(),
            place: format!("{DEFAULT_STORE}/{place}"),
        });
    }
    // A store that has experiments.
    if let Ok(inner) = Store::open_existing(place)
        && let [first, ..] = &quartet_history::experiments(&inner).await?[..]
    {
        return Err(StoredError::IsStore {
            store: place.to_owned(),
            first: first.clone(),
        });
    }
    Ok((store, experiment))
}

/// Whether the store that the coordinator takes by itself has this experiment.
async fn is_usual(name: &str) -> bool {
    let Ok(store) = Store::open_existing(DEFAULT_STORE) else {
        return false;
    };
    let key = format!("{name}/spec.json");
    store.exists(&key).await.unwrap_or_default()
}
