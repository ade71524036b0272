//! An experiment as the store has it: its spec, its data, its leader, and how far its runs are.

mod history;
mod leadership;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use quartet_proto::channel::Connector;
use quartet_shared::blob::{Blob, BlobRef, Checksum};
use quartet_shared::blocking;
use quartet_shared::clock::Timestamp;
use quartet_shared::human;
use quartet_shared::ids::{ExperimentId, Term};
use quartet_shared::report::EvaluationReport;
use quartet_shared::spec::{self, ExperimentSpec};
use quartet_store::layout::{self, Layout};
use quartet_store::manifest::StoredSpec;

use quartet_ingest::data::{self, Source};
use quartet_ingest::weights::{self, DownloadProgress, HubConfig, WeightSources};
use quartet_store::{Creation, Store, StoreError};

pub use history::read as read_history;
pub(crate) use history::read_committed;
pub use leadership::{LeadershipError, OtherLeader, Replaced};

/// Version of the store's layout and formats that this build reads and writes.
const FORMAT: u32 = 1;

/// An upload without a write for this long will not be finished.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// What the user asks for.
#[derive(Debug)]
pub struct Request {
    /// The experiment to train, or to go on with when the store has it already.
    pub spec: ExperimentSpec,
    /// Whether the spec was given explicitly, and so must equal the stored one.
    pub spec_is_explicit: bool,
    /// Where the images come from.
    pub source: Source,
    /// Whether the source was given explicitly, and so must equal the stored data.
    pub source_is_explicit: bool,
    /// How to read the source.
    pub data: data::Options,
    /// Where to look for the runs' initial weights.
    pub weights: weights::Options,
    /// What a new experiment's owner says of it.
    pub note: Option<String>,
    /// Words to find a new experiment by.
    pub tags: Vec<String>,
    /// `HOST:PORT` at which this coordinator can be reached.
    pub address: String,
    /// How another coordinator is reached.
    pub connector: Connector,
    /// How to ask a coordinator that does not speak TLS, where the other way does.
    pub plain_connector: Option<Connector>,
}

impl Request {
    /// Asks for `spec` trained on `source`, or for whatever the store has instead. Initial weights are looked
    /// for in the working directory and on the Hugging Face hub.
    #[must_use]
    pub fn new(
        spec: ExperimentSpec,
        source: Source,
        address: String,
        connector: Connector,
    ) -> Self {
        Self {
            spec,
            spec_is_explicit: false,
            source,
            source_is_explicit: false,
            data: data::Options::default(),
            weights: weights::Options {
                folder: PathBuf::new(),
                hub: HubConfig::from_env(),
            },
            note: None,
            tags: Vec::new(),
            address,
            connector,
            plain_connector: None,
        }
    }
}

/// The request does not fit what the store has.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(String);

/// An experiment that this process coordinates.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The store.
    pub store: Store,
    /// The experiment's keys in it.
    pub layout: Layout,
    /// What is trained, on what.
    pub spec: StoredSpec,
    /// The experiment's identity.
    pub id: ExperimentId,
    /// This coordinator's claim.
    pub term: Term,
    /// What was put into the store, for people; absent if the store had the experiment.
    pub created: Option<Created>,
}

/// What a new experiment is made of, for people.
#[derive(Clone, Debug)]
pub struct Created {
    /// The data.
    pub data: String,
    /// The initial weights of each run that has some.
    pub weights: Vec<String>,
}

/// The evaluation of an experiment of which nothing is left to be done. `None` if something may be.
///
/// # Errors
/// The store fails, or the request does not fit what the store has ([`Mismatch`]).
pub async fn finished(
    store: &Store,
    request: &Request,
) -> anyhow::Result<Option<EvaluationReport>> {
    let layout = Layout::new(request.spec.name.clone());
    let results = layout.results(None);
    let Some(report) = store.read_json(&results.evaluation()).await? else {
        return Ok(None);
    };
    // What is written last.
    for key in [results.predictions_table(), results.report()] {
        if !store.exists(&key).await? {
            return Ok(None);
        }
    }
    let Some(stored) = store.read_json::<StoredSpec>(&layout.spec()).await? else {
        return Ok(None);
    };
    check_same(&stored, request, &store.display_key(&layout.spec())).await?;
    Ok(Some(report))
}

impl Experiment {
    /// Opens the experiment, creating it if the store does not have it, and claims the next term.
    /// Downloads are shown on `progress`. The call can be dropped and repeated: all that it leaves are blobs
    /// that no spec names, or the experiment itself.
    ///
    /// # Errors
    /// The store fails, the request does not fit what the store has ([`Mismatch`]), or another coordinator
    /// leads the experiment and answers ([`OtherLeader`]).
    pub async fn open(
        store: Store,
        request: Request,
        progress: &mut DownloadProgress,
    ) -> anyhow::Result<Self> {
        let layout = Layout::new(request.spec.name.clone());
        let newest = leadership::newest(&store, &layout).await?;
        if let Some(newest) = &newest {
            leadership::refuse_beside_a_live_one(newest, &request).await?;
        }
        let address = request.address.clone();
        let (spec, created) = match store.read_json::<StoredSpec>(&layout.spec()).await? {
            Some(stored) => {
                check_same(&stored, &request, &store.display_key(&layout.spec())).await?;
                let experiment = &request.spec.name;
                tracing::info!(%experiment, "going on with an experiment of the store");
                (stored, None)
            }
            None => {
                let (spec, created) = create(&store, &layout, request, progress).await?;
                (spec, Some(created))
            }
        };
        let last = newest.map_or(Term(0), |newest| newest.term);
        let term = leadership::claim(&store, &layout, last, &address).await?;
        for folder in [&layout.prefix()[..], layout::SHARED[0], layout::SHARED[1]] {
            delete_leftovers(&store, folder).await?;
        }
        Ok(Self {
            store,
            layout,
            id: identity(&spec)?,
            spec,
            term,
            created,
        })
    }
}

/// The identity of an experiment; of one that has none, what its spec makes of it.
fn identity(spec: &StoredSpec) -> anyhow::Result<ExperimentId> {
    match &spec.id {
        Some(id) => Ok(id.clone()),
        None => Ok(Checksum::of(&serde_json::to_vec(spec)?)
            .to_string()
            .parse()?),
    }
}

/// Deletes uploads to `folder` that were begun long ago and not finished. Younger ones may be another
/// coordinator's: experiments share some folders.
async fn delete_leftovers(store: &Store, folder: &str) -> Result<(), StoreError> {
    for leftover in store.leftovers(folder).await? {
        if leftover.idle > LEFTOVER_AGE {
            tracing::info!(key = leftover.key, "deleting an unfinished upload");
            store.delete_leftover(&leftover).await?;
        }
    }
    Ok(())
}

async fn check_same(stored: &StoredSpec, request: &Request, place: &str) -> anyhow::Result<()> {
    let name = &request.spec.name;
    ensure!(
        stored.format == FORMAT,
        "{place} has format {}, this version of Quartet reads {FORMAT}",
        stored.format
    );
    stored
        .experiment
        .validate()
        .with_context(|| format!("{place} is damaged"))?;
    if request.spec_is_explicit && stored.experiment != request.spec {
        return Err(Mismatch(format!(
            "experiment {name} exists and differs from the one given ({}); \
             choose another name with --name, delete its folder to begin anew, \
             or leave --experiment and --set out to go on with it ({place})",
            difference(&stored.experiment, &request.spec)
        ))
        .into());
    }
    let other_note = request.note.is_some() && request.note != stored.note;
    if other_note || (!request.tags.is_empty() && request.tags != stored.tags) {
        return Err(Mismatch(format!(
            "experiment {name} exists, with another --note or other --tag: they are given when it begins; \
             leave them out to go on with it ({place})"
        ))
        .into());
    }
    if request.source_is_explicit {
        let packed = pack(request).await?;
        if packed.blob != stored.dataset.blob {
            return Err(Mismatch(format!(
                "experiment {name} was begun with other data than {}, or with other options for them \
                 (--split, --valid-fraction, --class-names, --skip-bad-rows); choose another name with \
                 --name, or leave --data out to go on with it ({place})",
                request.source
            ))
            .into());
        }
    }
    Ok(())
}

/// The first key in which two experiments differ, as a line of TOML.
fn difference(stored: &ExperimentSpec, given: &ExperimentSpec) -> String {
    let [stored_text, given_text] = [stored, given].map(spec::to_toml);
    let mut lines = stored_text.lines().zip(given_text.lines());
    match lines.find(|(stored, given)| stored != given) {
        Some((stored, given)) if stored.contains('=') => {
            format!("it has {}, now {}", stored.trim(), given.trim())
        }
        _ => format!(
            "it has {} runs, now {}",
            stored.runs.len(),
            given.runs.len()
        ),
    }
}

struct Packed {
    bytes: Bytes,
    blob: Blob,
    summary: String,
}

/// Reads and packs the data, off the asynchronous threads.
async fn pack(request: &Request) -> anyhow::Result<Packed> {
    let (source, options) = (request.source.clone(), request.data.clone());
    let packed = blocking::run(move || -> anyhow::Result<Packed> {
        let started = std::time::Instant::now();
        let loaded = data::load(&source, &options)?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let images = loaded
            .dataset
            .splits
            .each_ref()
            .map(|split| split.labels.len());
        let bytes = Bytes::from(loaded.dataset.encode());
        let blob = Blob {
            size: bytes.len() as u64,
            sha256: Checksum::of(&bytes),
        };
        tracing::info!(
            source = %source,
            train = images[0],
            valid = images[1],
            test = images[2],
            skipped = loaded.skipped,
            size = %human::size(blob.size),
            took = %human::duration(started.elapsed()),
            "packed the data"
        );
        let [train, valid, test] = images;
        let mut summary =
            format!("{source}: {train} training, {valid} validation, {test} test images");
        if loaded.skipped > 0 {
            summary.push_str(&format!(", {} skipped", loaded.skipped));
        }
        Ok(Packed {
            bytes,
            blob,
            summary,
        })
    });
    packed.await.context("reading the data panicked")?
}

async fn create(
    store: &Store,
    layout: &Layout,
    request: Request,
    progress: &mut DownloadProgress,
) -> anyhow::Result<(StoredSpec, Created)> {
    let sources = WeightSources::new(&request.spec.runs, request.weights.clone())?;
    // Data and weights are checked before anything is written, the data first: that takes only seconds.
    let Packed {
        bytes,
        blob,
        summary,
    } = pack(&request).await?;
    let found = sources.resolve(progress).await?;
    let key = layout::dataset(blob.sha256);
    if !store.exists(&key).await? {
        let mut upload = store.upload(&key);
        upload.write(bytes).await?;
        if let Err(found) = upload.finish(blob).await? {
            bail!("the packed data changed while it was written: {found} instead of {blob}");
        }
    }
    let dataset = BlobRef { key, blob };
    let weights = weights::put(&found, store).await?;
    let id = format!("{:032x}", rand::random::<u128>());
    let spec = StoredSpec {
        format: FORMAT,
        id: Some(id.parse()?),
        experiment: request.spec,
        dataset,
        weights,
        created_at: Some(Timestamp::now()),
        note: request.note,
        tags: request.tags,
    };
    if store.create_json(&layout.spec(), &spec).await? == Creation::Exists {
        bail!(
            "another coordinator has just created experiment {}; \
             start this one again to go on with it",
            spec.experiment.name
        );
    }
    let created = Created {
        data: summary,
        weights: found.iter().map(weights::LocalWeights::summary).collect(),
    };
    Ok((spec, created))
}

#[cfg(test)]
mod tests;
