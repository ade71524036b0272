//! An experiment on its way to a coordinator, with its data and its weights.

use std::collections::BTreeMap;
use std::io::{self, Write};

use futures::TryStreamExt;
use quartet_ingest::data::{self, DataError, Source};
use quartet_ingest::packed;
use quartet_ingest::weights::{self, DownloadProgress, FoundWeights, WeightSources, WeightsError};
use quartet_proto::v1;
use quartet_shared::blob::Blob;
use quartet_shared::human;
use quartet_shared::label::one_line;
use quartet_shared::spec::{ExperimentSpec, SpecError};

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
    /// Data or weights cannot be read any more.
    #[error("{0:#}")]
    Read(anyhow::Error),
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
            Self::Read(_) | Self::Output(_) => false,
        }
    }
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
    let sources = WeightSources::new(&experiment.runs, None, weights).await?;
    let mut client = Client::connect(options).await?;
    client.find_missing(&[]).await?;
    let packed = packed::pack(source, data).await;
    let packed = packed.map_err(|error| match error.downcast::<DataError>() {
        Ok(error) => SubmitFailure::Data(error),
        Err(error) => SubmitFailure::Read(error),
    })?;
    let (dataset, summary) = (packed.blob, packed.summary.clone());
    let found = sources.resolve(progress).await?;
    let mut objects = vec![content(v1::ObjectKind::Dataset, dataset)];
    objects.extend(
        found
            .iter()
            .map(|w| content(v1::ObjectKind::Weights, w.blob())),
    );
    let missing = client.find_missing(&objects).await?;
    let is_missing = |blob: Blob| {
        let blob = v1::Blob::from(blob);
        missing
            .iter()
            .any(|content| content.blob.as_ref() == Some(&blob))
    };
    if is_missing(dataset) {
        let _ = writeln!(err, "sending the data ({})", human::size(dataset.size));
        let header = content(v1::ObjectKind::Dataset, dataset);
        let chunks = packed.into_chunks().map_err(anyhow::Error::from);
        let sent = client.put_object(header, chunks).await;
        sent.map_err(|error| match error {
            PutError::Client(error) => SubmitFailure::Client(error),
            PutError::Read(error) => SubmitFailure::Read(error),
        })?;
    }
    let mut sent: Vec<Blob> = Vec::new();
    for weights in &found {
        // Several runs may start from the same ones.
        if is_missing(weights.blob()) && !sent.contains(&weights.blob()) {
            let size = human::size(weights.blob().size);
            let _ = writeln!(err, "sending the weights of {} ({size})", weights.run());
            send(&mut client, weights).await?;
            sent.push(weights.blob());
        }
    }
    let weights = found
        .iter()
        .map(|weights| (weights.run().to_string(), weights.blob().into()));
    let origins: BTreeMap<_, _> = found
        .iter()
        .filter_map(|weights| Some((weights.run(), weights.checkpoint()?)))
        .collect();
    let json = |json: serde_json::Result<Vec<u8>>| json.map(Into::into).map_err(io::Error::from);
    let request = v1::SubmitRequest {
        experiment: json(serde_json::to_vec(&experiment))?,
        dataset: Some(dataset.into()),
        weights: weights.collect(),
        origins: json(serde_json::to_vec(&origins))?,
        data_origin: summary.clone(),
        note: note.unwrap_or_default(),
        tags,
        priority,
    };
    let answer = client.submit(request).await?;
    writeln!(out, "data: {summary}")?;
    for weights in &found {
        writeln!(out, "weights: {}", weights.summary())?;
    }
    for weights in &answer.weights {
        writeln!(out, "weights: {}", one_line(weights))?;
    }
    let place = match answer.before {
        0 => "it is the next".to_owned(),
        1 => "1 is before it".to_owned(),
        before => format!("{before} are before it"),
    };
    match answer.known {
        true => {
            writeln!(out, "{name} is in the queue already; {place}")?;
            if answer.priority != priority {
                writeln!(
                    out,
                    "its priority stays {}; to change it, cancel it and submit it again",
                    answer.priority
                )?;
            }
        }
        false => writeln!(out, "{name} is in the queue; {place}")?,
    }
    Ok(())
}

fn content(kind: v1::ObjectKind, blob: Blob) -> v1::ObjectContent {
    v1::ObjectContent {
        kind: kind.into(),
        blob: Some(blob.into()),
    }
}

async fn send(client: &mut Client, weights: &FoundWeights) -> Result<(), SubmitFailure> {
    let unreadable = |error: anyhow::Error| match error.downcast::<WeightsError>() {
        Ok(error) => SubmitFailure::Weights(error),
        Err(error) => SubmitFailure::Read(error),
    };
    let chunks = weights.read().await.map_err(unreadable)?;
    let header = content(v1::ObjectKind::Weights, weights.blob());
    let sent = client.put_object(header, chunks).await;
    sent.map_err(|error| match error {
        PutError::Client(error) => SubmitFailure::Client(error),
        PutError::Read(error) => unreadable(error),
    })
}
