//! The leader of an experiment, or of the queue: the coordinator that claimed the newest term.
//!
//! A claim is an object that can be created once. A coordinator that starts asks the last leader whether
//! it lives, and is refused if it does; otherwise it claims the next term. The older one may still live
//! and have been out of reach. So each coordinator looks for a newer claim before it writes a fact, and
//! steps down if there is one.

use std::fmt;
use std::time::Duration;

use quartet_proto::MAX_SNAPSHOT_SIZE;
use quartet_proto::channel::{Connector, endpoint};
use quartet_proto::v1;
use quartet_proto::v1::queue_client::QueueClient;
use quartet_proto::v1::status_client::StatusClient;
use quartet_shared::clock;
use quartet_shared::ids::{ExperimentName, Term};
use quartet_store::layout::Claims;
use quartet_store::{Creation, Store, StoreError};
use serde::{Deserialize, Serialize};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// How long the coordinator of an older claim may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What is led by one coordinator at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Led {
    /// An experiment.
    Experiment(ExperimentName),
    /// The queue of a store.
    Queue,
}

impl fmt::Display for Led {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Experiment(name) => write!(f, "experiment {name}"),
            Self::Queue => f.write_str("the queue of this store"),
        }
    }
}

/// A coordinator's claim of a term, at [`Claims::claim`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) term: Term,
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

/// A coordinator's record that its term has ended in order, at [`Claims::closed`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Closed {
    pub(crate) term: Term,
    /// Seconds since the Unix epoch.
    closed_at: u64,
}

/// Another coordinator leads it, and it is alive.
#[derive(Debug, thiserror::Error)]
#[error(
    "{led} has a coordinator: process {pid} on {host}, at {address} (term {term}); stop it first"
)]
pub struct OtherLeader {
    led: Led,
    term: Term,
    address: String,
    host: String,
    pid: u32,
}

/// A newer coordinator has claimed it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("another coordinator leads {led} since term {newer}; this one, of term {own}, steps down")]
pub struct Replaced {
    led: Led,
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

/// Verifies that no newer coordinator has claimed it, and that the store still has our own claim: a directory
/// that is gone would silently be made anew.
///
/// # Errors
/// A newer coordinator has claimed it, or the store is gone or fails.
pub(crate) async fn verify(
    store: &Store,
    claims: &Claims,
    own: Term,
    led: impl FnOnce() -> Led,
) -> Result<(), LeadershipError> {
    let claim = claims.claim(own);
    // Terms can have gaps.
    let newest = store.newest(&claims.all()).await?;
    let newer = match newest {
        Some(newest) if newest == claim => return Ok(()),
        Some(newest) => store.read_json::<Claim>(&newest).await?,
        None => None,
    };
    let newer = newer.filter(|claim| claim.term > own);
    let Some(Claim { term: newer, .. }) = newer else {
        return Ok(store.check_still_has(&claim).await?);
    };
    let led = led();
    Err(Replaced { led, own, newer }.into())
}

/// Records that a term, which this coordinator still has, has ended in order.
///
/// # Errors
/// The store fails.
pub(crate) async fn close(store: &Store, claims: &Claims, term: Term) -> Result<(), StoreError> {
    let closed = Closed {
        term,
        closed_at: clock::unix_seconds(),
    };
    store.create_json(&claims.closed(term), &closed).await?;
    Ok(())
}

/// The newest claim.
pub(crate) async fn newest(store: &Store, claims: &Claims) -> Result<Option<Claim>, StoreError> {
    match store.newest(&claims.all()).await? {
        Some(key) => store.read_json(&key).await,
        None => Ok(None),
    }
}

/// Asks whether the coordinator of the newest claim is alive, unless that has ended in order.
///
/// # Errors
/// It is ([`OtherLeader`]), or the store fails.
pub(crate) async fn refuse_beside_a_live_one(
    store: &Store,
    claims: &Claims,
    newest: &Claim,
    led: &Led,
    connectors: &[&Connector],
) -> anyhow::Result<()> {
    if store.exists(&claims.closed(newest.term)).await? {
        return Ok(());
    }
    let mut answer = None;
    for connector in connectors {
        let asked = ask(&newest.address, led, connector);
        answer = tokio::time::timeout(ANSWER_TIMEOUT, asked).await.ok();
        // One that uses no keys, or others, is told apart from one that is gone.
        // So is one that leads something else.
        let says_no = |status: &Status| status.code() == Code::NotFound;
        if let Some(answer) = &answer
            && (is_answer(answer.as_ref()) || answer.as_ref().is_err_and(says_no))
        {
            break;
        }
    }
    // Another coordinator may have the address by now.
    let lives = match &answer {
        Some(Ok(term)) => *term == newest.term.0,
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
        led: led.clone(),
        term,
        address,
        host,
        pid,
    }
    .into())
}

/// Whether a coordinator has answered, be it that our keys are not those of its fleet.
fn is_answer(answer: Result<&u64, &Status>) -> bool {
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

/// The term in which the coordinator at an address leads it.
async fn ask(address: &str, led: &Led, connector: &Connector) -> Result<u64, Status> {
    let uri = format!("http://{address}");
    let endpoint = endpoint(uri, ANSWER_TIMEOUT, ANSWER_TIMEOUT);
    let endpoint = endpoint.map_err(|error| Status::from_error(error.into()))?;
    let channel: Channel = connector.channel(endpoint);
    match led {
        Led::Experiment(name) => {
            let client = StatusClient::new(channel);
            let mut client = client.max_decoding_message_size(MAX_SNAPSHOT_SIZE);
            let experiment = name.to_string();
            let request = v1::GetSnapshotRequest { experiment };
            let snapshot = client.get_snapshot(request).await?.into_inner();
            match snapshot.experiment == name.as_str() {
                true => Ok(snapshot.term),
                false => Err(Status::not_found("another experiment")),
            }
        }
        Led::Queue => {
            let client = QueueClient::new(channel);
            let mut client = client.max_decoding_message_size(MAX_SNAPSHOT_SIZE);
            let queue = client.get_queue(v1::GetQueueRequest {}).await?;
            Ok(queue.into_inner().term)
        }
    }
}

/// Claims the first free term after `last`.
pub(crate) async fn claim(
    store: &Store,
    claims: &Claims,
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
        let key = claims.claim(claim.term);
        if store.create_json(&key, &claim).await? == Creation::Created
            // The answer to a first try was lost.
            || store.read_json(&key).await?.as_ref() == Some(&claim)
        {
            return Ok(claim.term);
        }
    }
}
