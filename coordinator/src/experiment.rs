//! An experiment as the store has it: its spec, its data, its leader, and how far its runs are.
//!
//! - `request`: what the user asks for
//! - `create`: puts a new one into the store, with its data and weights; `submit`: one whose data and weights
//!   are there already
//! - `revision`: what may change in one that is there; `settle`: what follows from a change
//! - `history`: how far its runs are; `bin`: manifests that do not count any more

mod bin;
mod create;
mod history;
mod request;
mod revision;
pub(crate) mod settle;
pub(crate) mod submit;

use std::time::Duration;

use anyhow::{Context, ensure};
use quartet_ingest::weights::DownloadProgress;
use quartet_shared::blob::Checksum;
use quartet_shared::ids::{ExperimentId, ExperimentName, Term};
use quartet_shared::report::EvaluationReport;
use quartet_store::layout::{self, Layout};
use quartet_store::manifest::StoredSpec;
use quartet_store::spec::newest_spec;
use quartet_store::{Creation, Store, StoreError};

pub(crate) use bin::Bin;
use create::{is_packed, pack};
use revision::{Prepared, Wanted};

use crate::leadership::{self, LeadershipError, Led};

pub use history::read as read_history;
pub(crate) use history::read_committed;
pub use request::Request;

/// Version of the store's layout and formats that this build reads and writes.
const FORMAT: u32 = 1;

/// An upload without a write for this long will not be finished.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

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
    let Some(report) = store
        .read_json::<EvaluationReport>(&results.evaluation())
        .await?
    else {
        return Ok(None);
    };
    // What is written last.
    for key in [results.predictions_table(), results.report()] {
        if !store.exists(&key).await? {
            return Ok(None);
        }
    }
    let Some(stored) = newest_spec(store, &layout).await? else {
        return Ok(None);
    };
    let changes = Wanted::of(&stored, request)?.is_some();
    if changes || !stored.is_evaluated_by(&report) {
        return Ok(None);
    }
    check(store, &layout, &stored, request).await?;
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
        let claims = layout.claims();
        let name = request.spec.name.clone();
        let led = Led::Experiment(name.clone());
        let connectors = request.connectors();
        let mut newest = leadership::newest(&store, &claims).await?;
        if let Some(newest) = &newest {
            leadership::refuse_beside_a_live_one(&store, &claims, newest, &led, &connectors)
                .await?;
        }
        let mut created = None;
        let mut change = None;
        let spec = match newest_spec(&store, &layout).await? {
            Some(stored) => {
                check(&store, &layout, &stored, &request).await?;
                if let Some(wanted) = Wanted::of(&stored, &request)? {
                    let prepared = wanted.prepare(&store, &layout, &stored, &request, progress);
                    change = Some(prepared.await?);
                }
                tracing::info!(experiment = %name, "going on with an experiment of the store");
                stored
            }
            None if request.update => {
                let others = quartet_history::experiments(&store).await?;
                let others: Vec<_> = others.iter().map(ExperimentName::as_str).collect();
                let others = match &others[..] {
                    [] => "it has none".to_owned(),
                    others => format!("it has {}; --name says which", others.join(", ")),
                };
                return Err(Mismatch(format!(
                    "{} has no experiment {name} to be changed, {others}",
                    store.location()
                ))
                .into());
            }
            None => {
                let (spec, new) = create::create(&store, &layout, &request, progress).await?;
                created = Some(new);
                spec
            }
        };
        // Packing data and downloads may have taken a while.
        let latest = leadership::newest(&store, &claims).await?;
        if latest != newest {
            if let Some(latest) = &latest {
                leadership::refuse_beside_a_live_one(&store, &claims, latest, &led, &connectors)
                    .await?;
            }
            newest = latest;
        }
        let last = newest.map_or(Term(0), |newest| newest.term);
        let term = leadership::claim(&store, &claims, last, &request.address).await?;
        let mut experiment = Self {
            store,
            layout,
            id: identity(&spec)?,
            spec,
            term,
            created,
        };
        experiment.check_unchanged().await?;
        if let Some(change) = change {
            experiment.revise(&change).await?;
        }
        let Self { store, layout, .. } = &experiment;
        for folder in [&layout.prefix()[..], layout::SHARED[0], layout::SHARED[1]] {
            delete_leftovers(store, folder).await?;
        }
        settle::settle(&experiment).await?;
        Ok(experiment)
    }

    /// The evaluation of all runs, if it is of this form of the experiment. One that is not may come late
    /// from a coordinator that was replaced.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn evaluation(&self) -> Result<Option<EvaluationReport>, StoreError> {
        let key = self.layout.results(None).evaluation();
        let report: Option<EvaluationReport> = self.store.read_json(&key).await?;
        Ok(report.filter(|report| self.spec.is_evaluated_by(report)))
    }

    /// Verifies that no newer coordinator has claimed the experiment, and that the store still has our claim.
    ///
    /// # Errors
    /// A newer coordinator has claimed it, or the store is gone or fails.
    pub async fn verify_leadership(&self) -> Result<(), LeadershipError> {
        let led = || Led::Experiment(self.spec.experiment.name.clone());
        leadership::verify(&self.store, &self.layout.claims(), self.term, led).await
    }

    /// Records that this term has ended and no lease is held, so that the next coordinator need not wait
    /// for returning workers.
    ///
    /// # Errors
    /// A newer coordinator has claimed the experiment, or the store fails.
    pub async fn close_term(&self) -> Result<(), LeadershipError> {
        self.verify_leadership().await?;
        let closed = leadership::close(&self.store, &self.layout.claims(), self.term).await;
        Ok(closed?)
    }

    /// Verifies that nobody has changed the experiment since it was read. Nobody will: this is its leader.
    async fn check_unchanged(&self) -> anyhow::Result<()> {
        let newest = newest_spec(&self.store, &self.layout).await?;
        ensure!(
            newest.as_ref() == Some(&self.spec),
            "another coordinator has just changed experiment {}; start this one again to go on with it",
            self.spec.experiment.name
        );
        Ok(())
    }

    /// Makes the next form of the experiment.
    async fn revise(&mut self, change: &Prepared) -> anyhow::Result<()> {
        let next = change.revise(&self.store, &self.layout, &self.spec).await?;
        self.verify_leadership().await?;
        let key = self.layout.revision(next.revision());
        if self.store.create_json(&key, &next).await? == Creation::Exists {
            // The answer to a first try may have been lost.
            let there: Option<StoredSpec> = self.store.read_json(&key).await?;
            ensure!(
                there.as_ref() == Some(&next),
                "another coordinator has just changed experiment {}; start this one again to go on with it",
                next.experiment.name
            );
        }
        self.spec = next;
        Ok(())
    }
}

/// The identity of a new experiment.
fn new_identity() -> ExperimentId {
    let number = format!("{:032x}", rand::random::<u128>());
    number.parse().expect("hexadecimal digits are a name")
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

/// Checks that a stored experiment can be read and trained, and that it has the data that are asked for.
async fn check(
    store: &Store,
    layout: &Layout,
    stored: &StoredSpec,
    request: &Request,
) -> anyhow::Result<()> {
    let place = store.display_key(&layout.revision(stored.revision()));
    ensure!(
        stored.format == FORMAT,
        "{place} has format {}, this version of Quartet reads {FORMAT}",
        stored.format
    );
    stored
        .experiment
        .validate()
        .with_context(|| format!("{place} is damaged"))?;
    let name = &request.spec.name;
    if let Some(fork) = &request.fork
        && stored.forked_from.as_ref() != Some(fork)
    {
        return Err(Mismatch(format!(
            "experiment {name} exists and is no fork of {fork}; choose another name with --name, \
             or leave --fork out to go on with it ({place})"
        ))
        .into());
    }
    if request.source_is_explicit
        && !is_packed(request, stored).await
        && pack(request).await?.blob != stored.dataset.blob
    {
        let origin = stored.data_origin.as_deref();
        let origin = origin.map_or_else(String::new, |origin| format!(" (it has {origin})"));
        return Err(Mismatch(format!(
            "experiment {name} was begun with other data than {}{origin}, or with other options for them \
             (--split, --valid-fraction, --class-names, --channels, --size, --soft-labels, \
             --skip-bad-rows); choose another name with --name, or leave --data out to go on with it \
             ({place})",
            request.source
        ))
        .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
