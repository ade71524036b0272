//! Creates event files in a store.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use quartet_history::ExperimentRecord;
use quartet_store::layout::Layout;
use quartet_store::{Creation, Store, StoreError};

use crate::files::{EventFiles, File};

/// Folders that are written at once: a server answers each creation after tens of milliseconds.
const AT_ONCE: usize = 16;

/// Creates event files, one after the other, and returns how many are new. What is there stays as it is.
///
/// # Errors
/// The store fails. The files before this one are there, those after it are not.
pub async fn write(
    store: &Store,
    files: impl IntoIterator<Item = File>,
) -> Result<usize, StoreError> {
    let mut created = 0;
    for file in files {
        if store.create_watched(&file.key, file.bytes).await? == Creation::Created {
            created += 1;
        }
    }
    Ok(created)
}

/// Creates the event files of an experiment that its store does not have. Returns how many it has created.
///
/// Within a folder, smaller numbers come first: see [`EventFiles::epoch`]. `training_images` is how many
/// images of the data set are trained on.
///
/// # Errors
/// The store fails. Another call goes on from there.
pub async fn write_missing(
    store: &Store,
    experiment: &ExperimentRecord,
    training_images: u64,
) -> Result<usize, StoreError> {
    let layout = Layout::new(experiment.spec.experiment.name.clone());
    let existing = store.list(&layout.tensorboard()).await?;
    let existing: BTreeSet<String> = existing.into_iter().collect();
    let files = EventFiles::new(&experiment.spec, training_images);
    let mut folders: BTreeMap<String, Vec<File>> = BTreeMap::new();
    for file in files.all(experiment) {
        if !existing.contains(&file.key) {
            let folder = file.key.rsplit_once('/').map_or("", |(folder, _)| folder);
            folders.entry(folder.to_owned()).or_default().push(file);
        }
    }
    stream::iter(folders.into_values())
        .map(|files| write(store, files))
        .buffer_unordered(AT_ONCE)
        .try_fold(0, |sum, created| async move { Ok(sum + created) })
        .await
}
