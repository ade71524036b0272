//! Initial weights: where each run's come from, brought to this machine, and put into the store.
//!
//! Workers never see a source. They read the bytes from the store, under the checksum that the experiment's
//! `spec.json` names, and find out for themselves what is in them.

mod checkpoint;
mod download_progress;
mod error;
mod format;
pub mod hub;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::ids::RunName;
use quartet_shared::spec::{Backbone, HubFile, OtherRun, RunSpec, Weights};
use quartet_shared::{blocking, chunks, human};
use quartet_store::manifest::CheckpointOrigin;
use quartet_store::{Store, StoreError, layout};

pub use checkpoint::RunProblem;
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

/// The sources of an experiment's weights; files on this machine and checkpoints are known to be there.
#[derive(Debug)]
pub struct WeightSources {
    sources: Vec<Source>,
    options: Options,
    /// That of the experiment.
    store: Option<Store>,
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
    Run(OtherRun),
}

/// Weights that were found, for one run.
#[derive(Clone, Debug)]
pub struct FoundWeights {
    /// The run that starts from them.
    run: RunName,
    /// Where they come from, for people.
    origin: String,
    bytes: Location,
    /// Their size and checksum.
    blob: Blob,
}

/// Where the bytes of weights are.
#[derive(Clone, Debug)]
enum Location {
    File(PathBuf),
    Checkpoint {
        store: Store,
        key: String,
        origin: CheckpointOrigin,
    },
}

/// Weights in the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredWeights {
    /// The object that each run starts from.
    pub objects: BTreeMap<RunName, BlobRef>,
    /// The checkpoints that objects are copies of.
    pub origins: BTreeMap<RunName, CheckpointOrigin>,
}

impl WeightSources {
    /// Finds the sources of the runs' weights and looks at those that are files of this machine or
    /// checkpoints of other runs, in `store` or another. Without a store those of it are left out: whoever
    /// has it finds them. Quick.
    ///
    /// # Errors
    /// A file is not there or cannot be weights, or a checkpoint is not there or does not fit.
    pub async fn new(
        runs: &[RunSpec],
        store: Option<&Store>,
        options: Options,
    ) -> Result<Self, WeightsError> {
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
                Weights::Run(of) if of.store.is_none() && store.is_none() => continue,
                Weights::Run(of) => Place::Run(of.clone()),
            };
            if let Place::Run(of) = &place {
                let found = checkpoint::find(of, store, &options.folder).await;
                found
                    .and_then(|found| found.check_fits(run))
                    .map_err(|problem| WeightsError::run(&run.name, of, problem))?;
            }
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
        Ok(Self {
            sources,
            options,
            store: store.cloned(),
        })
    }

    /// Brings all weights to this machine, but for checkpoints, each source once, and computes their
    /// checksums. Dropped, it ends its downloads; they go on where they were the next time.
    ///
    /// # Errors
    /// The first source that cannot be had.
    pub async fn resolve(
        self,
        progress: &mut DownloadProgress,
    ) -> Result<Vec<FoundWeights>, WeightsError> {
        let mut found = Vec::new();
        for Source { runs, place } in self.sources {
            let (origin, bytes, blob) = match place {
                Place::File(path) => {
                    let blob = blob_of(&path)
                        .await
                        .map_err(|error| WeightsError::file(&runs[0], &path, error.into()))?;
                    (path.display().to_string(), Location::File(path), blob)
                }
                Place::Run(of) => {
                    // It may be training, and have a better one than before.
                    let best =
                        checkpoint::find(&of, self.store.as_ref(), &self.options.folder).await;
                    let best = best.map_err(|problem| WeightsError::run(&runs[0], &of, problem))?;
                    let summary = best.summary(&of);
                    let location = Location::Checkpoint {
                        store: best.store,
                        key: best.weights.key,
                        origin: best.origin,
                    };
                    (summary, location, best.weights.blob)
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
                    (origin, Location::File(path), blob)
                }
            };
            found.extend(runs.into_iter().map(|run| FoundWeights {
                run,
                origin: origin.clone(),
                bytes: bytes.clone(),
                blob,
            }));
        }
        Ok(found)
    }
}

impl FoundWeights {
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

    /// The run that starts from them.
    #[must_use]
    pub fn run(&self) -> &RunName {
        &self.run
    }

    /// Their size and checksum.
    #[must_use]
    pub fn blob(&self) -> Blob {
        self.blob
    }

    /// The checkpoint of another run that they are, if they are one.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&CheckpointOrigin> {
        match &self.bytes {
            Location::Checkpoint { origin, .. } => Some(origin),
            Location::File(_) => None,
        }
    }

    /// The bytes, in chunks.
    ///
    /// # Errors
    /// They cannot be read any more.
    pub async fn read(&self) -> anyhow::Result<BoxStream<'static, anyhow::Result<Bytes>>> {
        let unreadable = {
            let run = self.run.clone();
            move |path: &Path, error: io::Error| WeightsError::file(&run, path, error.into())
        };
        Ok(match &self.bytes {
            Location::File(path) => {
                let file = File::open(path).map_err(|error| unreadable(path, error))?;
                let path = path.clone();
                let chunks = chunks::of_file(file);
                Box::pin(chunks.map_err(move |error| unreadable(&path, error).into()))
            }
            Location::Checkpoint { store, key, .. } => {
                Box::pin(store.read(key).await?.map_err(anyhow::Error::from))
            }
        })
    }

    /// The error that the bytes are not those that were found.
    fn changed(&self) -> WeightsError {
        match &self.bytes {
            Location::File(path) => WeightsError::file(&self.run, path, FileProblem::Changed),
            Location::Checkpoint { origin, .. } => WeightsError::Run {
                run: self.run.clone(),
                source_run: format!("{}/{}", origin.experiment, origin.run),
                problem: Box::new(RunProblem::Changed),
            },
        }
    }
}

/// Puts weights into the store, unless it has them, and says which run starts from which object.
///
/// # Errors
/// A file or checkpoint cannot be read any more or is not what it was; or the store fails.
pub async fn put(found: &[FoundWeights], store: &Store) -> anyhow::Result<StoredWeights> {
    let mut stored = StoredWeights::default();
    for weights in found {
        let key = layout::weights(weights.blob.sha256);
        if !store.exists(&key).await? {
            upload(weights, &key, store).await?;
        }
        let (run, blob) = (&weights.run, weights.blob);
        stored.objects.insert(run.clone(), BlobRef { key, blob });
        if let Some(origin) = weights.checkpoint() {
            stored.origins.insert(run.clone(), origin.clone());
        }
    }
    Ok(stored)
}

async fn upload(weights: &FoundWeights, key: &str, store: &Store) -> anyhow::Result<()> {
    let mut chunks = match weights.read().await {
        Err(error) if matches!(error.downcast_ref(), Some(StoreError::NotFound { .. })) => {
            return Err(weights.changed().into());
        }
        chunks => chunks?,
    };
    let mut upload = store.upload(key);
    loop {
        match chunks.try_next().await {
            Ok(Some(chunk)) => upload.write(chunk).await?,
            Ok(None) => break,
            Err(error) => {
                upload.abort().await;
                return Err(match error.downcast_ref() {
                    Some(StoreError::NotFound { .. }) => weights.changed().into(),
                    _ => error,
                });
            }
        }
    }
    match upload.finish(weights.blob).await? {
        Ok(()) => Ok(()),
        Err(_) => Err(weights.changed().into()),
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
