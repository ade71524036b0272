//! The connection to a coordinator.

mod queue;

use std::error::Error;
use std::time::Duration;

use quartet_identity::client::TlsProblem;
use quartet_identity::{KeyError, Role};
use quartet_proto::MAX_SNAPSHOT_SIZE;
use quartet_proto::channel::{Connector, endpoint};
use quartet_proto::v1;
use quartet_proto::v1::queue_client::QueueClient;
use quartet_proto::v1::status_client::StatusClient;
use quartet_shared::ids::Attempt;
use quartet_shared::ids::ExperimentName;
use quartet_shared::label::one_line;
use quartet_shared::task::Task;
use quartet_shared::wire::WireError;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use super::options::{Address, Options};
use super::queue::QueueState;
use super::snapshot::{InvalidSnapshot, Snapshot};

pub(super) use queue::PutError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connected coordinator may take for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Whose keys are shown, the first that there are.
const WATCHERS: [Role; 4] = [Role::Admin, Role::Viewer, Role::Worker, Role::Coordinator];

/// Why a coordinator cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers, or no longer.
    #[error(
        "no coordinator answers at {address}: {reason}\n\
         is it running? start one with `coordinator --workers 4`, look at what one has left with \
         `status show runs/NAME`, \
         or name another with --coordinator HOST:PORT"
    )]
    Unreachable {
        /// Who was asked.
        address: Address,
        /// The innermost cause.
        reason: String,
    },
    /// Somebody else answers.
    #[error(
        "{address} is not a Quartet coordinator, or one of another version: {reason}\n\
         name another with --coordinator HOST:PORT"
    )]
    NotCoordinator {
        /// Who was asked.
        address: Address,
        /// What it said.
        reason: String,
    },
    /// It does not train the experiment any more.
    #[error("experiment {experiment} {how}{}", because(.reason))]
    Over {
        /// The experiment.
        experiment: ExperimentName,
        /// In which way.
        how: QueueState,
        /// Why.
        reason: String,
    },
    /// It trains nothing now.
    #[error("the coordinator at {address}: {reason}")]
    Idle {
        /// Who was asked.
        address: Address,
        /// What it said.
        reason: String,
    },
    /// The coordinator does not do what was asked for.
    #[error("{0}")]
    Refused(String),
    /// There is no such run or attempt.
    #[error("{0}")]
    NoSuch(String),
    /// What was submitted cannot be trained, or has the name of another experiment.
    #[error("{0}")]
    Unusable(String),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// There is nobody to ask.
    #[error("name a coordinator with --coordinator HOST:PORT")]
    NoAddress,
    /// The coordinator's answer makes no sense to this version.
    #[error("the coordinator at {address} sent something that this version cannot read: {source}")]
    Invalid {
        /// Who was asked.
        address: Address,
        /// What is wrong with its answer.
        source: InvalidSnapshot,
    },
    /// The same of the queue.
    #[error("the coordinator at {address} sent something that this version cannot read: {source}")]
    InvalidQueue {
        /// Who was asked.
        address: Address,
        /// What is wrong with its answer.
        source: WireError,
    },
}

impl ClientError {
    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Idle { .. })
    }
}

fn because(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason => format!(": {}", one_line(reason)),
    }
}

/// A connected client of the services for people.
pub(super) struct Client {
    address: Address,
    service: StatusClient<Channel>,
    queue: QueueClient<Channel>,
    /// Which experiment is asked for; empty for the first.
    experiment: String,
}

impl Client {
    /// Connects to the first of the addresses at which somebody listens.
    pub(super) async fn connect(options: &Options) -> Result<Self, ClientError> {
        let connector = options.keys.connector(&WATCHERS, "watching")?;
        let mut last = None;
        for address in &options.coordinator {
            match Self::connect_to(address, &connector, options).await {
                Ok(client) => return Ok(client),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(ClientError::NoAddress))
    }

    async fn connect_to(
        address: &Address,
        connector: &Connector,
        options: &Options,
    ) -> Result<Self, ClientError> {
        let channel = async {
            let endpoint = endpoint(address.uri(), CONNECT_TIMEOUT, KEEP_ALIVE_INTERVAL)?;
            connector.connect(endpoint).await
        };
        let channel = channel
            .await
            .map_err(|error| match TlsProblem::of(&error) {
                Some(problem) => {
                    ClientError::Refused(format!("the coordinator at {address}: {problem}"))
                }
                None => unreachable(address, innermost(&error)),
            })?;
        Ok(Self {
            address: address.clone(),
            service: StatusClient::new(channel.clone())
                .max_decoding_message_size(MAX_SNAPSHOT_SIZE),
            queue: QueueClient::new(channel).max_decoding_message_size(MAX_SNAPSHOT_SIZE),
            experiment: options
                .name
                .as_ref()
                .map_or_else(String::new, ExperimentName::to_string),
        })
    }

    /// The state now.
    pub(super) async fn snapshot(&mut self) -> Result<Snapshot, ClientError> {
        let experiment = self.experiment.clone();
        let answer = self
            .service
            .get_snapshot(v1::GetSnapshotRequest { experiment });
        match answered(&self.address, answer).await {
            Ok(answer) => read(&self.address, answer.into_inner()),
            Err(error) => Err(self.why_not(error).await),
        }
    }

    /// Has all workers hand their runs back and exit; how many.
    pub(super) async fn drain_fleet(&mut self) -> Result<u32, ClientError> {
        let answer = self.service.drain_fleet(v1::DrainFleetRequest {});
        Ok(answered(&self.address, answer).await?.into_inner().workers)
    }

    /// Has a worker hand its run back and exit; its id.
    pub(super) async fn drain(&mut self, worker: &str) -> Result<String, ClientError> {
        let answer = self.service.drain_worker(v1::DrainWorkerRequest {
            worker: worker.to_owned(),
        });
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Err(status))
                if matches!(status.code(), Code::NotFound | Code::FailedPrecondition) =>
            {
                Err(ClientError::Refused(
                    one_line(status.message()).into_owned(),
                ))
            }
            Ok(Err(status)) => Err(refused(&self.address, &status)),
            Ok(Ok(answer)) => Ok(answer.into_inner().worker_id),
            Err(_) => Err(silent(&self.address)),
        }
    }

    /// Gives a task that has failed for good another budget.
    pub(super) async fn retry(&mut self, task: &Task) -> Result<(), ClientError> {
        let answer = self.service.retry_task(v1::RetryTaskRequest {
            task: Some(task.clone().into()),
            experiment: self.experiment.clone(),
        });
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Err(status))
                if matches!(status.code(), Code::FailedPrecondition | Code::Aborted) =>
            {
                Err(ClientError::Refused(
                    one_line(status.message()).into_owned(),
                ))
            }
            Ok(Err(status)) => Err(refused(&self.address, &status)),
            Ok(Ok(_)) => Ok(()),
            Err(_) => Err(silent(&self.address)),
        }
    }

    /// The next parts of a log after one. `None` for the newest attempt.
    pub(super) async fn read_log(
        &mut self,
        task: &Task,
        attempt: Option<Attempt>,
        after: u32,
    ) -> Result<v1::ReadLogResponse, ClientError> {
        let answer = self.service.read_log(v1::ReadLogRequest {
            task: Some(task.clone().into()),
            attempt: attempt.map_or(0, |attempt| attempt.0),
            after,
            experiment: self.experiment.clone(),
        });
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Err(status)) => Err(refused(&self.address, &status)),
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Err(_) => Err(silent(&self.address)),
        }
    }

    /// A token for a link to the coordinator's page, empty where it needs none, and where the page is.
    pub(super) async fn create_page_link(mut self) -> Result<(Address, String), ClientError> {
        let answer = self.service.create_page_link(v1::CreatePageLinkRequest {});
        let token = answered(&self.address, answer).await?.into_inner().token;
        // What a stranger says goes into an address.
        if token.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Ok((self.address, token));
        }
        Err(unreachable(
            &self.address,
            "its answer makes no sense".into(),
        ))
    }

    /// The state now and after every change.
    pub(super) async fn watch(mut self) -> Result<Watch, ClientError> {
        let answer = self.service.watch(v1::WatchRequest {
            min_interval_ms: 0,
            experiment: self.experiment.clone(),
        });
        let stream = match answered(&self.address, answer).await {
            Ok(stream) => stream.into_inner(),
            Err(error) => return Err(self.why_not(error).await),
        };
        Ok(Watch {
            address: self.address,
            stream,
        })
    }
}

/// Snapshots as the coordinator sends them.
pub(super) struct Watch {
    address: Address,
    stream: Streaming<v1::Snapshot>,
}

impl Watch {
    /// The next snapshot. That there is none is an error too: only the end of the experiment ends the stream
    /// properly.
    pub(super) async fn next(&mut self) -> Result<Snapshot, ClientError> {
        match self.stream.message().await {
            Ok(Some(snapshot)) => read(&self.address, snapshot),
            Ok(None) => Err(unreachable(&self.address, "it stopped".into())),
            Err(status) => Err(refused(&self.address, &status)),
        }
    }
}

pub(super) async fn answered<T>(
    address: &Address,
    answer: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|status| refused(address, &status)),
        Err(_) => Err(silent(address)),
    }
}

pub(super) fn silent(address: &Address) -> ClientError {
    unreachable(
        address,
        format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
    )
}

fn read(address: &Address, snapshot: v1::Snapshot) -> Result<Snapshot, ClientError> {
    snapshot.try_into().map_err(|source| ClientError::Invalid {
        address: address.clone(),
        source,
    })
}

pub(super) fn refused(address: &Address, status: &tonic::Status) -> ClientError {
    let reason = match status.source() {
        Some(source) => innermost(source),
        None if status.message().is_empty() => status.code().description().to_owned(),
        None => one_line(status.message()).into_owned(),
    };
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => ClientError::Refused(reason),
        Code::NotFound => ClientError::NoSuch(reason),
        Code::FailedPrecondition => ClientError::Idle {
            address: address.clone(),
            reason,
        },
        Code::Unimplemented => ClientError::NotCoordinator {
            address: address.clone(),
            reason,
        },
        _ => unreachable(address, reason),
    }
}

fn unreachable(address: &Address, reason: String) -> ClientError {
    ClientError::Unreachable {
        address: address.clone(),
        reason,
    }
}

/// Transport errors say what happened only at the end of their chain.
fn innermost(mut error: &(dyn Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
