//! Initial weights: where each run's come from, brought to this machine, and put into the store.
//!
//! Workers never see a source. They read the bytes from the store, under the checksum that the experiment's
//! `spec.json` names, and find out for themselves what is in them.

mod download_progress;
mod error;
mod format;
pub mod hub;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;

use futures::StreamExt as _;
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::ids::RunName;
use quartet_shared::spec::{Backbone, HubFile, RunSpec, Weights};
use quartet_shared::{blocking, chunks, human};
use quartet_store::{Store, layout};

pub use download_progress::DownloadProgress;
pub use error::{FileProblem, WeightsError};
pub use hub::{HubConfig, HubProblem, Missing};

/// Where to look for weights.
#[derive(Clone, Debug)]
pub struct Options {
    /// What relative paths are relative to.
    pub folder: PathBuf,
    /// The Hugging Face hub and its cache on this machine.
    pub hub: HubConfig,
}

/// The sources of an experiment's weights; files on this machine are known to be there.
#[derive(Debug)]
pub struct WeightSources {
    sources: Vec<Source>,
    options: Options,
}

/// A source, and the runs that start from it.
#[derive(Debug)]
struct Source {
    runs: Vec<RunName>,
    place: Place,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Hub(HubFile),
}

/// Weights on this machine, for one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalWeights {
    /// The run that starts from them.
    pub run: RunName,
    /// Where they come from, for people.
    pub origin: String,
    /// The file.
    pub path: PathBuf,
    /// Its size and checksum.
    pub blob: Blob,
}

impl WeightSources {
    /// Finds the sources of the runs' weights and looks at those that are files of this machine. Quick.
    ///
    /// # Errors
    /// A file is not there or cannot be weights.
    pub fn new(runs: &[RunSpec], options: Options) -> Result<Self, WeightsError> {
        let mut sources: Vec<Source> = Vec::new();
        for run in runs {
            let place = match &run.weights {
                Weights::None => continue,
                Weights::Imagenet => Place::Hub(imagenet(run.backbone)),
                Weights::Hub(file) => Place::Hub(explicit(file)),
                Weights::File(path) => {
                    let path = options.folder.join(path);
                    Place::File(std::path::absolute(&path).unwrap_or(path))
                }
            };
            if let Some(source) = sources.iter_mut().find(|source| source.place == place) {
                source.runs.push(run.name.clone());
                continue;
            }
            if let Place::File(path) = &place {
                format::check(path)
                    .map_err(|problem| WeightsError::file(&run.name, path, problem))?;
            }
            sources.push(Source {
                runs: vec![run.name.clone()],
                place,
            });
        }
        Ok(Self { sources, options })
    }

    /// Brings all weights to this machine, each source once, and computes their checksums. Dropped, it ends
    /// its downloads; they go on where they were the next time.
    ///
    /// # Errors
    /// The first source that cannot be had.
    pub async fn resolve(
        self,
        progress: &mut DownloadProgress,
    ) -> Result<Vec<LocalWeights>, WeightsError> {
        let mut found = Vec::new();
        for Source { runs, place } in self.sources {
            let (origin, path, blob) = match place {
                Place::File(path) => {
                    let blob = blob_of(&path)
                        .await
                        .map_err(|error| WeightsError::file(&runs[0], &path, error.into()))?;
                    (path.display().to_string(), path, blob)
                }
                Place::Hub(file) => {
                    let config = &self.options.hub;
                    let origin = short(&file);
                    progress.begin(&runs, &origin);
                    let resolved = hub::resolve(&file, config, progress).await;
                    progress.end();
                    let (path, blob) = resolved
                        .map_err(|problem| WeightsError::hub(&runs[0], &file, config, problem))?;
                    format::check(&path)
                        .map_err(|problem| WeightsError::file(&runs[0], &path, problem))?;
                    (origin, path, blob)
                }
            };
            found.extend(runs.into_iter().map(|run| LocalWeights {
                run,
                origin: origin.clone(),
                path: path.clone(),
                blob,
            }));
        }
        Ok(found)
    }
}

impl LocalWeights {
    /// A line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let size = human::size(self.blob.size);
        let sum = self.blob.sha256.to_string();
        format!(
            "{} from {} ({size}, sha256 {}...)",
            self.run,
            self.origin,
            &sum[..8]
        )
    }

    fn problem(&self, problem: FileProblem) -> WeightsError {
        WeightsError::file(&self.run, &self.path, problem)
    }
}

/// Puts weights into the store, unless it has them, and says which run starts from which object.
///
/// # Errors
/// A file cannot be read any more or is not what it was; or the store fails.
pub async fn put(
    found: &[LocalWeights],
    store: &Store,
) -> anyhow::Result<BTreeMap<RunName, BlobRef>> {
    let mut references = BTreeMap::new();
    for weights in found {
        let key = layout::weights(weights.blob.sha256);
        if !store.exists(&key).await? {
            upload(weights, &key, store).await?;
        }
        let blob = weights.blob;
        references.insert(weights.run.clone(), BlobRef { key, blob });
    }
    Ok(references)
}

async fn upload(weights: &LocalWeights, key: &str, store: &Store) -> anyhow::Result<()> {
    let unreadable = |error: io::Error| weights.problem(error.into());
    let file = File::open(&weights.path).map_err(unreadable)?;
    let mut chunks = pin!(chunks::of_file(file));
    let mut upload = store.upload(key);
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) => upload.write(chunk).await?,
            Err(error) => {
                upload.abort().await;
                return Err(unreadable(error).into());
            }
        }
    }
    match upload.finish(weights.blob).await? {
        Ok(()) => Ok(()),
        Err(_) => Err(weights.problem(FileProblem::Changed).into()),
    }
}

/// Size and checksum of a file.
async fn blob_of(path: &Path) -> io::Result<Blob> {
    let path = path.to_owned();
    let blob = blocking::run(move || Blob::of_file(&path)).await;
    blob.map_err(io::Error::other).flatten()
}

/// The default choice among published ImageNet weights.
fn imagenet(backbone: Backbone) -> HubFile {
    HubFile {
        repository: backbone.facts().imagenet.to_owned(),
        revision: Some(HubFile::REVISION.to_owned()),
        file: Some(HubFile::FILE.to_owned()),
    }
}

/// The same file with nothing left to defaults, so that equal files are equal values.
fn explicit(file: &HubFile) -> HubFile {
    HubFile {
        repository: file.repository.clone(),
        revision: Some(file.revision().to_owned()),
        file: Some(file.file().to_owned()),
    }
}

/// The file as people write it: without what the defaults say.
fn short(file: &HubFile) -> String {
    let unless = |value: &Option<String>, default: &str| value.clone().filter(|v| v != default);
    HubFile {
        repository: file.repository.clone(),
        revision: unless(&file.revision, HubFile::REVISION),
        file: unless(&file.file, HubFile::FILE),
    }
    .to_string()
}

#[cfg(test)]
mod tests;
