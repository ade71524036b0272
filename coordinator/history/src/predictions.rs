//! What the members of an evaluated ensemble say of every image, as the store keeps it.

mod table;

use std::ops::Range;

use quartet_shared::blob::BlobRef;
use quartet_shared::dataset::{ImageShape, Index, Split};
use quartet_shared::ids::RunName;
use quartet_shared::predictions::{InvalidPredictions, Shape};
use quartet_shared::report::{Prediction, ensemble};
use quartet_store::layout::Layout;
use quartet_store::manifest::PredictionsManifest;
use quartet_store::{Store, StoreError};

use crate::record::ExperimentRecord;

pub use table::write_table;

/// Bytes of probabilities that are in memory at once, or one row of each member if that is more.
const BLOCK_BYTES: u64 = 8 << 20;

/// Why the predictions of an ensemble cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PredictionsError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Those of a member are not kept, as it is with evaluations of earlier versions.
    #[error("the predictions of run {0} are not kept")]
    Missing(RunName),
    /// What was kept is gone.
    #[error("{key} does not exist")]
    Gone {
        /// The object.
        key: String,
    },
    /// What is kept is not what was written.
    #[error("{key} is corrupt")]
    Corrupt {
        /// The object.
        key: String,
    },
    /// What is kept are no predictions for the experiment's data.
    #[error("{key}: {source}")]
    Invalid {
        /// The object.
        key: String,
        /// What is wrong.
        source: InvalidPredictions,
    },
}

/// The predictions that are kept of a run's weights: of several, those of the newest attempt.
///
/// # Errors
/// The store fails.
pub async fn kept(
    store: &Store,
    layout: &Layout,
    run: &RunName,
    weights: &BlobRef,
) -> Result<Option<BlobRef>, StoreError> {
    let mut keys = store.list(&layout.all_predictions(run)).await?;
    keys.retain(|key| key.ends_with(".json"));
    // Attempts above 999 have a digit more.
    keys.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    for key in keys.iter().rev() {
        match store.read_json::<PredictionsManifest>(key).await {
            Ok(Some(manifest)) if manifest.weights == *weights => {
                return Ok(Some(manifest.predictions));
            }
            Ok(_) => {}
            Err(error) if error.is_of_content() => {
                tracing::warn!(%error, "predictions are passed over");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Reads the predictions of an evaluated ensemble in blocks, so that little of them is in memory at a time.
#[derive(Debug)]
pub struct PredictionsReader {
    store: Store,
    dataset: String,
    index: Index,
    shape: Shape,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    run: RunName,
    weight: f64,
    key: String,
}

/// Some images of a split, and what is said of them.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    /// The split.
    pub split: Split,
    /// Index of the first image in its split.
    pub first: u64,
    /// The class of each image.
    pub labels: &'a [u8],
    /// What each member says, `[images, classes]`, in the order of the evaluation's report.
    pub members: Vec<Vec<f32>>,
    /// The weighted mean, `[images, classes]`.
    pub ensemble: Vec<f64>,
}

impl PredictionsReader {
    /// Finds the predictions of an evaluated ensemble, and verifies that their bytes are those that were
    /// written. `None` without an evaluation.
    ///
    /// # Errors
    /// The store fails, or those of a member are not kept or corrupt.
    pub async fn open(
        store: &Store,
        record: &ExperimentRecord,
    ) -> Result<Option<Self>, PredictionsError> {
        let Some(report) = &record.report else {
            return Ok(None);
        };
        let layout = Layout::new(record.spec.experiment.name.clone());
        let dataset = record.spec.dataset.key.clone();
        let mut kept_members = Vec::with_capacity(report.members.len());
        for member in &report.members {
            let missing = || PredictionsError::Missing(member.run.clone());
            let run = record
                .runs
                .iter()
                .find(|run| run.spec.name == member.run)
                .ok_or_else(missing)?;
            let epoch = run
                .epochs
                .iter()
                .find(|epoch| epoch.epoch == member.best_epoch)
                .ok_or_else(missing)?;
            let object = kept(store, &layout, &member.run, &epoch.weights)
                .await?
                .ok_or_else(missing)?;
            kept_members.push((member, object));
        }
        let index = store.read_index(&dataset).await?;
        let shape = Shape::of_summary(&index.summary());
        let mut verified = Vec::with_capacity(kept_members.len());
        for (member, object) in kept_members {
            let key = object.key;
            let (found, expected) = (object.blob.size, shape.size());
            if found != expected {
                let source = InvalidPredictions::Size { found, expected };
                return Err(PredictionsError::Invalid { key, source });
            }
            match store.checksum(&key).await? {
                Some(found) if found == object.blob => {}
                Some(_) => return Err(PredictionsError::Corrupt { key }),
                None => return Err(PredictionsError::Gone { key }),
            }
            verified.push(Member {
                run: member.run.clone(),
                weight: member.weight,
                key,
            });
        }
        Ok(Some(Self {
            store: store.clone(),
            dataset,
            index,
            shape,
            members: verified,
        }))
    }

    /// Names of the classes.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.index.classes
    }

    /// The members, in the order of the evaluation's report.
    pub fn members(&self) -> impl Iterator<Item = &RunName> {
        self.members.iter().map(|member| &member.run)
    }

    /// The evaluated splits, in the order of their blocks.
    pub fn splits(&self) -> impl Iterator<Item = Split> {
        self.shape.splits().iter().map(|(split, _)| *split)
    }

    /// What the blocks of all splits are, in order.
    pub fn blocks(&self) -> impl Iterator<Item = (Split, Range<u64>)> + use<> {
        let row = (self.members.len() * self.shape.classes() * size_of::<f32>()) as u64;
        let rows = (BLOCK_BYTES / row.max(1)).max(1);
        let splits = self.shape.splits().to_vec().into_iter();
        splits.flat_map(move |(split, images)| {
            let starts = (0..images).step_by(usize::try_from(rows).unwrap_or(usize::MAX));
            starts.map(move |start| (split, start..images.min(start + rows)))
        })
    }

    /// Reads a block.
    ///
    /// # Errors
    /// The store fails, or a number is no probability.
    pub async fn block(
        &self,
        (split, images): (Split, Range<u64>),
    ) -> Result<Block<'_>, PredictionsError> {
        let range = self.shape.rows(split, &images);
        let mut members = Vec::with_capacity(self.members.len());
        for Member { key, .. } in &self.members {
            let bytes = self.store.read_piece(key, range.clone()).await?;
            let rows = self.shape.read_rows(split, images.start, &bytes);
            members.push(rows.map_err(|source| PredictionsError::Invalid {
                key: key.clone(),
                source,
            })?);
        }
        let said = self.members.iter().zip(&members);
        let said: Vec<_> = said
            .map(|(member, probabilities)| Prediction {
                run: member.run.clone(),
                weight: member.weight,
                probabilities,
            })
            .collect();
        let ensemble = ensemble(&said);
        // The images are in memory, and so the numbers fit.
        let images = images.start as usize..images.end as usize;
        Ok(Block {
            split,
            first: images.start as u64,
            labels: &self.index.labels(split)[images],
            members,
            ensemble,
        })
    }

    /// The shape of all images.
    #[must_use]
    pub fn image_shape(&self) -> ImageShape {
        self.index.shape()
    }

    /// The pixels of an image, `[height, width, channels]`.
    ///
    /// # Errors
    /// The store fails.
    pub async fn image(&self, split: Split, image: u64) -> Result<Vec<u8>, StoreError> {
        let range = self.index.image(split, image);
        let pixels = self.store.read_piece(&self.dataset, range).await?;
        Ok(pixels.into())
    }
}

impl Block<'_> {
    /// For each image its class and the ensemble's probabilities.
    pub fn rows(&self) -> impl Iterator<Item = (u8, &[f64])> {
        let classes = self.ensemble.len() / self.labels.len().max(1);
        let rows = self.ensemble.chunks_exact(classes.max(1));
        self.labels.iter().copied().zip(rows)
    }
}
