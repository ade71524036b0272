//! A trained experiment, read from its store.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use futures::TryStreamExt;
use futures::future::try_join_all;
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::dataset::Index;
use quartet_shared::ids::{ExperimentName, RunName};
use quartet_shared::report::EvaluationReport;
use quartet_shared::spec::RunSpec;
use quartet_store::evaluation::newest_evaluation;
use quartet_store::layout::Layout;
use quartet_store::manifest::{Manifest, StoredSpec};
use quartet_store::spec::newest_spec;
use quartet_store::{Store, StoreError};
use tokio::io::AsyncWriteExt;

/// An experiment's folder in its store.
#[derive(Debug)]
pub struct TrainedExperiment {
    store: Store,
    layout: Layout,
    spec: StoredSpec,
}

/// A run and its best checkpoint.
#[derive(Debug)]
pub struct TrainedRun {
    /// The run.
    pub run: RunSpec,
    /// The manifest of its best epoch.
    pub best: Manifest,
}

impl TrainedExperiment {
    /// Opens an experiment by its folder: `DIR/NAME` or `s3://bucket/prefix/NAME`.
    ///
    /// # Errors
    /// There is no experiment, or the store cannot be read.
    pub async fn open(location: &str) -> anyhow::Result<Self> {
        let folder = location.trim_end_matches('/');
        let (store, name) = match folder.strip_prefix("s3://") {
            Some(_) => {
                let split = folder.rsplit_once('/');
                let (root, name) =
                    split.filter(|(root, _)| *root != "s3:/").with_context(|| {
                        format!("{location:?} names no experiment; use s3://bucket/prefix/NAME")
                    })?;
                (root.to_owned(), name.to_owned())
            }
            None => {
                let folder = Path::new(folder)
                    .canonicalize()
                    .with_context(|| format!("there is no experiment {location}"))?;
                let name = folder.file_name().and_then(|name| name.to_str());
                let name = name.with_context(|| format!("{location:?} names no experiment"))?;
                let root = folder.parent().unwrap_or(&folder);
                (root.display().to_string(), name.to_owned())
            }
        };
        let name: ExperimentName = name.parse()?;
        let store = Store::open(&store)?;
        let layout = Layout::new(name);
        let spec = newest_spec(&store, &layout).await?.with_context(|| {
            let key = store.display_key(&layout.spec());
            format!("there is no experiment {location}: {key} does not exist")
        })?;
        Ok(Self {
            store,
            layout,
            spec,
        })
    }

    /// What was trained.
    #[must_use]
    pub fn spec(&self) -> &StoredSpec {
        &self.spec
    }

    /// The beginning of the data set: sizes and names.
    ///
    /// # Errors
    /// The data set cannot be read.
    pub async fn dataset(&self) -> Result<Index, StoreError> {
        self.store.read_index(&self.spec.dataset.key).await
    }

    /// The best checkpoint so far of one run, or of all that join the ensemble.
    ///
    /// # Errors
    /// There is no such run, or one has no checkpoint yet.
    pub async fn runs(&self, only: Option<&RunName>) -> anyhow::Result<Vec<TrainedRun>> {
        let experiment = &self.spec.experiment;
        let runs: Vec<&RunSpec> = match only {
            Some(name) => {
                let run = experiment.run(name).with_context(|| {
                    let names: Vec<_> = experiment.runs.iter().map(|r| r.name.as_str()).collect();
                    format!("there is no run {name}; there are {}", names.join(", "))
                })?;
                vec![run]
            }
            None => {
                let missing = self.missing().await?;
                if let [_, ..] = missing[..] {
                    let names: Vec<_> = missing.iter().map(RunName::as_str).collect();
                    tracing::warn!(runs = names.join(", "), "left out, because they failed");
                }
                let runs = experiment.runs.iter();
                runs.filter(|run| !missing.contains(&run.name)).collect()
            }
        };
        let trained = runs.into_iter().map(|run| async {
            let best = self.best(run).await?;
            Ok(TrainedRun {
                run: run.clone(),
                best,
            })
        });
        try_join_all(trained).await
    }

    /// Writes the best weights of a run to a file in a folder, and verifies them.
    ///
    /// # Errors
    /// They are damaged, or cannot be read or written.
    pub async fn fetch(&self, run: &TrainedRun, folder: &Path) -> anyhow::Result<PathBuf> {
        let path = folder.join(format!("{}.safetensors", run.run.name));
        self.download(&run.best.weights, &path).await?;
        Ok(path)
    }

    /// The runs that the newest evaluation lacks, unless all were evaluated later.
    async fn missing(&self) -> anyhow::Result<Vec<RunName>> {
        let Some(newest) = newest_evaluation(&self.store, &self.layout).await? else {
            return Ok(Vec::new());
        };
        let report: Option<EvaluationReport> = self.store.read_json(&newest).await?;
        let report = report.filter(|report| self.spec.is_evaluated_by(report));
        let partial = report.and_then(|report| report.partial);
        Ok(partial.map_or_else(Vec::new, |partial| partial.missing))
    }

    async fn best(&self, run: &RunSpec) -> anyhow::Result<Manifest> {
        let manifests = self.store.list(&self.layout.manifests(&run.name)).await?;
        let Some(latest) = manifests.last() else {
            bail!(
                "run {} has no checkpoint yet; --run names one that has",
                run.name
            );
        };
        let latest: Manifest = self.manifest(latest).await?;
        let begun = self.spec.begun(&run.name);
        ensure!(
            latest.revision >= begun,
            "run {} begins anew with revision {begun} and has no checkpoint yet",
            run.name
        );
        let best = latest.early_stopping.best_epoch;
        if best == latest.epoch {
            return Ok(latest);
        }
        self.manifest(&self.layout.manifest(&run.name, best)).await
    }

    async fn manifest(&self, key: &str) -> anyhow::Result<Manifest> {
        let manifest = self.store.read_json(key).await?;
        manifest.with_context(|| format!("{} is missing", self.store.display_key(key)))
    }

    async fn download(&self, object: &BlobRef, path: &Path) -> anyhow::Result<()> {
        let cannot_write = || format!("cannot write {}", path.display());
        let mut file = tokio::fs::File::create(path)
            .await
            .with_context(cannot_write)?;
        let mut stream = self.store.read(&object.key).await?;
        while let Some(chunk) = stream.try_next().await? {
            file.write_all(&chunk).await.with_context(cannot_write)?;
        }
        file.flush().await.with_context(cannot_write)?;
        ensure!(
            Blob::of_file(path).with_context(cannot_write)? == object.blob,
            "{} is corrupt: it has not the size and SHA-256 of its manifest",
            self.store.display_key(&object.key)
        );
        Ok(())
    }
}
