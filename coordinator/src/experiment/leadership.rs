//! The leader of an experiment: the coordinator that claimed the newest term.
//!
//! A claim is an object that can be created once. A coordinator that starts asks the last leader whether
//! it lives, and is refused if it does; otherwise it claims the next term. The older one may still live
//! and have been out of reach. So each coordinator looks for a newer claim before it writes a fact, and
//! steps down if there is one.

use std::time::Duration;

use quartet_proto::MAX_SNAPSHOT_SIZE;
use quartet_proto::channel::{Connector, endpoint};
use quartet_proto::v1;
use quartet_proto::v1::status_client::StatusClient;
use quartet_shared::clock;
use quartet_shared::ids::{ExperimentName, Term};
use quartet_store::layout::Layout;
use serde::{Deserialize, Serialize};

use super::{Experiment, Request};
use quartet_store::{Creation, Store, StoreError};
use tonic::{Code, Status};

/// How long the coordinator of an older claim may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A coordinator's claim of a term, at [`Layout::coordinator`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) term: Term,
    /// Where it can be reached.
    address: String,
    host: String,
    pid: u32,
    /// Seconds since the Unix epoch.
    claimed_at: u64,
    /// Tells this claim from all others; earlier versions wrote none.
    #[serde(default)]
    nonce: u64,
}

/// A coordinator's record that no lease was held when its term ended, at [`Layout::closed`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Closed {
    pub(super) term: Term,
    /// Seconds since the Unix epoch.
    closed_at: u64,
}

/// Another coordinator leads the experiment, and it is alive.
#[derive(Debug, thiserror::Error)]
#[error(
    "experiment {experiment} has a coordinator: process {pid} on {host}, at {address} (term {term}); \
     stop it first"
)]
pub struct OtherLeader {
    experiment: ExperimentName,
    term: Term,
    address: String,
    host: String,
    pid: u32,
}

/// A newer coordinator has claimed the experiment.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "another coordinator leads experiment {experiment} since term {newer}; \
     this one, of term {own}, steps down"
)]
pub struct Replaced {
    experiment: ExperimentName,
    own: Term,
    newer: Term,
}

/// Why a coordinator may not write a fact now.
#[derive(Debug, thiserror::Error)]
pub enum LeadershipError {
    /// It is no longer the leader.
    #[error(transparent)]
    Replaced(#[from] Replaced),
    /// The store cannot say.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Experiment {
    /// Verifies that no newer coordinator has claimed the experiment, and that the store still has our own
    /// claim: a directory that is gone would silently be made anew.
    ///
    /// # Errors
    /// A newer coordinator has claimed it, or the store is gone or fails.
    pub async fn verify_leadership(&self) -> Result<(), LeadershipError> {
        let own = self.layout.coordinator(self.term);
        // Terms can have gaps.
        let newest = self.store.newest(&self.layout.coordinators()).await?;
        let newer = match newest {
            Some(newest) if newest == own => return Ok(()),
            Some(newest) => self.store.read_json::<Claim>(&newest).await?,
            None => None,
        };
        let newer = newer.filter(|claim| claim.term > self.term);
        let Some(Claim { term: newer, .. }) = newer else {
            return Ok(self.store.check_still_has(&own).await?);
        };
        let experiment = self.spec.experiment.name.clone();
        Err(Replaced {
            experiment,
            own: self.term,
            newer,
        }
        .into())
    }

    /// Records that this term has ended and no lease is held, so that the next coordinator need not wait
    /// for returning workers.
    ///
    /// # Errors
    /// A newer coordinator has claimed the experiment, or the store fails.
    pub async fn close_term(&self) -> Result<(), LeadershipError> {
        self.verify_leadership().await?;
        let closed = Closed {
            term: self.term,
            closed_at: clock::unix_seconds(),
        };
        let key = self.layout.closed(self.term);
        self.store.create_json(&key, &closed).await?;
        Ok(())
    }
}

/// The newest claim.
pub(super) async fn newest(store: &Store, layout: &Layout) -> Result<Option<Claim>, StoreError> {
    match store.newest(&layout.coordinators()).await? {
        Some(key) => store.read_json(&key).await,
        None => Ok(None),
    }
}

/// Asks whether the coordinator of the newest claim is alive, unless that has ended in order.
///
/// # Errors
/// It is ([`OtherLeader`]), or the store fails.
pub(super) async fn refuse_beside_a_live_one(
    store: &Store,
    layout: &Layout,
    newest: &Claim,
    request: &Request,
) -> anyhow::Result<()> {
    if store.exists(&layout.closed(newest.term)).await? {
        return Ok(());
    }
    let experiment = &request.spec.name;
    let connectors = [Some(&request.connector), request.plain_connector.as_ref()];
    let mut answer = None;
    for connector in connectors.into_iter().flatten() {
        let asked = ask(&newest.address, connector);
        answer = tokio::time::timeout(ANSWER_TIMEOUT, asked).await.ok();
        // One that uses no keys, or others, is told apart from one that is gone.
        if answer
            .as_ref()
            .is_some_and(|answer| is_answer(answer.as_ref()))
        {
            break;
        }
    }
    // Another experiment's coordinator may have the address by now.
    let is_it = |snapshot: &v1::Snapshot| {
        snapshot.experiment == experiment.as_str() && snapshot.term == newest.term.0
    };
    let lives = match &answer {
        Some(Ok(snapshot)) => is_it(snapshot),
        Some(answer) => is_answer(answer.as_ref()),
        None => false,
    };
    if !lives {
        tracing::debug!(
            address = newest.address,
            ?answer,
            "the last coordinator is gone"
        );
        return Ok(());
    }
    let Claim {
        term,
        address,
        host,
        pid,
        ..
    } = newest.clone();
    Err(OtherLeader {
        experiment: experiment.clone(),
        term,
        address,
        host,
        pid,
    }
    .into())
}

/// Whether a coordinator has answered, be it that our keys are not those of its fleet.
fn is_answer(answer: Result<&v1::Snapshot, &Status>) -> bool {
    answer.map_or_else(
        |status| {
            matches!(
                status.code(),
                Code::Unauthenticated | Code::PermissionDenied
            )
        },
        |_| true,
    )
}

async fn ask(address: &str, connector: &Connector) -> Result<v1::Snapshot, Status> {
    let uri = format!("http://{address}");
    let endpoint = endpoint(uri, ANSWER_TIMEOUT, ANSWER_TIMEOUT);
    let endpoint = endpoint.map_err(|error| Status::from_error(error.into()))?;
    let channel = connector.channel(endpoint);
    let client = StatusClient::new(channel);
    let mut client = client.max_decoding_message_size(MAX_SNAPSHOT_SIZE);
    let snapshot = client.get_snapshot(v1::GetSnapshotRequest {}).await?;
    Ok(snapshot.into_inner())
}

/// Claims the first free term after `last`.
pub(super) async fn claim(
    store: &Store,
    layout: &Layout,
    last: Term,
    address: &str,
) -> Result<Term, StoreError> {
    let mut claim = Claim {
        term: last,
        address: address.to_owned(),
        host: quartet_shared::host::name(),
        pid: std::process::id(),
        claimed_at: clock::unix_seconds(),
        nonce: rand::random(),
    };
    loop {
        claim.term = claim.term.next();
        let key = layout.coordinator(claim.term);
        if store.create_json(&key, &claim).await? == Creation::Created
            // The answer to a first try was lost.
            || store.read_json(&key).await?.as_ref() == Some(&claim)
        {
            return Ok(claim.term);
        }
    }
}
