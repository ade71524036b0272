//! An experiment on its way to a coordinator, with its data and its weights.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use quartet_ingest::data::{self, DataError, Source};
use quartet_ingest::weights::{self, DownloadProgress, LocalWeights, WeightSources, WeightsError};
use quartet_proto::v1;
use quartet_shared::blob::{Blob, Checksum};
use quartet_shared::chunks::{self, CHUNK_SIZE};
use quartet_shared::ids::RunName;
use quartet_shared::spec::{ExperimentSpec, SpecError};
use quartet_shared::{blocking, human};

use crate::client::{Client, ClientError, PutError};
use crate::options::Options;

/// What is submitted.
#[derive(Debug)]
pub struct Submission {
    /// What to train.
    pub experiment: ExperimentSpec,
    /// Where the images come from.
    pub source: Source,
    /// How to read them.
    pub data: data::Options,
    /// Where to look for the runs' initial weights.
    pub weights: weights::Options,
    /// What its owner says of it.
    pub note: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Those of a higher one come first.
    pub priority: i32,
}

/// Why nothing was submitted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitFailure {
    /// The experiment cannot be trained.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The weights cannot be had.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The coordinator cannot be asked, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file changed or cannot be read any more.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Reading the data panicked.
    #[error("reading the data panicked")]
    Panicked,
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl SubmitFailure {
    /// Whether other arguments, other data or other weights would help.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Spec(_) | Self::Data(_) | Self::Weights(_) => true,
            Self::Client(error) => matches!(
                error,
                ClientError::Keys(_) | ClientError::NoSuch(_) | ClientError::Unusable(_)
            ),
            Self::File { .. } | Self::Panicked | Self::Output(_) => false,
        }
    }
}

/// Packed data.
struct Packed {
    bytes: Bytes,
    blob: Blob,
    summary: String,
}

/// Puts an experiment with its data and weights into the queue of a coordinator. What the coordinator's store
/// has already is not sent.
///
/// # Errors
/// See [`SubmitFailure`].
pub async fn submit(
    options: &Options,
    submission: Submission,
    progress: &mut DownloadProgress,
    mut out: impl Write,
    mut err: impl Write,
) -> Result<(), SubmitFailure> {
    let Submission {
        experiment,
        source,
        data,
        weights,
        note,
        tags,
        priority,
    } = submission;
    let name = experiment.name.clone();
    experiment.validate().map_err(|error| SpecError::Invalid {
        file: format!("experiment {name}"),
        error,
    })?;
    // Of mistakes one hears before anything is read: of a coordinator without a queue, too.
    let sources = WeightSources::new(&experiment.runs, weights)?;
    let mut client = Client::connect(options).await?;
    client.find_missing(&[]).await?;
    let packed = pack(source, data).await?;
    let found = sources.resolve(progress).await?;
    let mut objects = vec![content(v1::ObjectKind::Dataset, packed.blob)];
    objects.extend(
        found
            .iter()
            .map(|w| content(v1::ObjectKind::Weights, w.blob)),
    );
    let missing = client.find_missing(&objects).await?;
    let is_missing = |blob: Blob| {
        let blob = v1::Blob::from(blob);
        missing
            .iter()
            .any(|content| content.blob.as_ref() == Some(&blob))
    };
    if is_missing(packed.blob) {
        let _ = writeln!(err, "sending the data ({})", human::size(packed.blob.size));
        let header = content(v1::ObjectKind::Dataset, packed.blob);
        let sent = client.put_object(header, cut(packed.bytes)).await;
        sent.map_err(|error| match error {
            PutError::Client(error) => SubmitFailure::Client(error),
            PutError::Read(error) => SubmitFailure::Output(error),
        })?;
    }
    let mut sent: Vec<Blob> = Vec::new();
    for weights in &found {
        // Several runs may start from the same ones.
        if is_missing(weights.blob) && !sent.contains(&weights.blob) {
            let size = human::size(weights.blob.size);
            let _ = writeln!(err, "sending the weights of {} ({size})", weights.run);
            send(&mut client, weights).await?;
            sent.push(weights.blob);
        }
    }
    let of_runs: BTreeMap<RunName, Blob> = found.iter().map(|w| (w.run.clone(), w.blob)).collect();
    let request = v1::SubmitRequest {
        experiment: serde_json::to_vec(&experiment)
            .map_err(io::Error::from)?
            .into(),
        dataset: Some(packed.blob.into()),
        weights: of_runs
            .into_iter()
            .map(|(run, blob)| (run.to_string(), blob.into()))
            .collect(),
        note: note.unwrap_or_default(),
        tags,
        priority,
    };
    let answer = client.submit(request).await?;
    writeln!(out, "data: {}", packed.summary)?;
    for weights in &found {
        writeln!(out, "weights: {}", weights.summary())?;
    }
    let place = match answer.before {
        0 => "it is the next".to_owned(),
        1 => "1 is before it".to_owned(),
        before => format!("{before} are before it"),
    };
    match answer.known {
        true => writeln!(out, "{name} is in the queue already; {place}")?,
        false => writeln!(out, "{name} is in the queue; {place}")?,
    }
    Ok(())
}

/// Reads and packs the data, off the asynchronous threads.
async fn pack(source: Source, options: data::Options) -> Result<Packed, SubmitFailure> {
    let packed = blocking::run(move || -> Result<Packed, SubmitFailure> {
        let loaded = data::load(&source, &options)?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let splits = loaded.dataset.splits.each_ref();
        let [train, valid, test] = splits.map(|split| split.labels.len());
        let mut summary =
            format!("{source}: {train} training, {valid} validation, {test} test images");
        if loaded.skipped > 0 {
            summary.push_str(&format!(", {} skipped", loaded.skipped));
        }
        let bytes = Bytes::from(loaded.dataset.encode());
        let blob = Blob {
            size: bytes.len() as u64,
            sha256: Checksum::of(&bytes),
        };
        Ok(Packed {
            bytes,
            blob,
            summary,
        })
    });
    packed.await.map_err(|_| SubmitFailure::Panicked)?
}

fn content(kind: v1::ObjectKind, blob: Blob) -> v1::ObjectContent {
    v1::ObjectContent {
        kind: kind.into(),
        blob: Some(blob.into()),
    }
}

/// Bytes in memory as chunks.
fn cut(bytes: Bytes) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static {
    stream::unfold(bytes, |mut bytes| async move {
        let next = bytes.split_to(bytes.len().min(CHUNK_SIZE));
        (!next.is_empty()).then_some((Ok(next), bytes))
    })
    .boxed()
}

async fn send(client: &mut Client, weights: &LocalWeights) -> Result<(), SubmitFailure> {
    let failed = |source| SubmitFailure::File {
        path: weights.path.clone(),
        source,
    };
    let file = std::fs::File::open(&weights.path).map_err(failed)?;
    let header = content(v1::ObjectKind::Weights, weights.blob);
    let sent = client
        .put_object(header, chunks::of_file(file).boxed())
        .await;
    sent.map_err(|error| match error {
        PutError::Client(error) => SubmitFailure::Client(error),
        PutError::Read(error) => failed(error),
    })
}
