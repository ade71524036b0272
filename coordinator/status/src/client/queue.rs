//! What a client asks of the queue.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use quartet_proto::v1::{self, put_object_request::Part};
use quartet_shared::ids::ExperimentName;
use quartet_shared::label::one_line;
use tonic::{Code, Status};

use super::{Client, ClientError, answered, refused, silent};
use crate::queue::QueueStatus;

/// How long a coordinator may take that copies checkpoints within its store.
const COPY_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a coordinator may take that writes to its store.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why an object was not put.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The bytes cannot be read.
    #[error("{0:#}")]
    Read(anyhow::Error),
}

impl Client {
    /// What waits, what is trained and what has ended.
    pub(crate) async fn queue(&mut self) -> Result<QueueStatus, ClientError> {
        let answer = self.queue.get_queue(v1::GetQueueRequest {});
        let answer = answered(&self.address, answer).await?.into_inner();
        let address = self.address.clone();
        answer
            .try_into()
            .map_err(|source| ClientError::InvalidQueue { address, source })
    }

    /// Why the experiment that is asked for cannot be watched: it may wait, or have ended.
    pub(super) async fn why_not(&mut self, error: ClientError) -> ClientError {
        let ClientError::NoSuch(reason) = &error else {
            return error;
        };
        let Ok(queue) = self.queue().await else {
            return error;
        };
        let mut entries = queue.entries.into_iter();
        let entry = entries.find(|entry| entry.experiment.as_str() == self.experiment);
        match entry {
            Some(entry) if entry.ended_at.is_some() => ClientError::Over {
                experiment: entry.experiment,
                how: entry.state,
                reason: entry.reason.unwrap_or_default(),
            },
            Some(entry) => ClientError::Idle {
                address: self.address.clone(),
                reason: format!("experiment {} {}", entry.experiment, entry.state),
            },
            None => ClientError::NoSuch(reason.clone()),
        }
    }

    /// Takes an experiment out of the queue. Returns whether it was being trained.
    pub(crate) async fn cancel(
        &mut self,
        experiment: &ExperimentName,
    ) -> Result<bool, ClientError> {
        let experiment = experiment.to_string();
        let answer = self.queue.cancel(v1::CancelRequest { experiment });
        match tokio::time::timeout(WRITE_TIMEOUT, answer).await {
            Ok(answer) => Ok(answer.map_err(|s| self.declined(&s))?.into_inner().was_open),
            Err(_) => Err(silent(&self.address)),
        }
    }

    /// Which of these objects the coordinator's store does not have.
    pub(crate) async fn find_missing(
        &mut self,
        objects: &[v1::ObjectContent],
    ) -> Result<Vec<v1::ObjectContent>, ClientError> {
        let objects = objects.to_vec();
        let answer = self.queue.find_missing(v1::FindMissingRequest { objects });
        match tokio::time::timeout(WRITE_TIMEOUT, answer).await {
            Ok(answer) => Ok(answer.map_err(|s| self.declined(&s))?.into_inner().missing),
            Err(_) => Err(silent(&self.address)),
        }
    }

    /// Sends an object. It takes as long as the link needs.
    pub(crate) async fn put_object(
        &mut self,
        header: v1::ObjectContent,
        bytes: impl Stream<Item = anyhow::Result<Bytes>> + Send + Unpin + 'static,
    ) -> Result<(), PutError> {
        let unread: Arc<Mutex<Option<anyhow::Error>>> = Arc::default();
        let failed = Arc::clone(&unread);
        let chunks = bytes.map(move |chunk| match chunk {
            Ok(chunk) => Some(Part::Chunk(chunk)),
            Err(error) => {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                None
            }
        });
        // What cannot be read ends the upload, which the coordinator then refuses.
        let chunks = chunks.take_while(|part| std::future::ready(part.is_some()));
        let parts = stream::once(std::future::ready(Some(Part::Header(header)))).chain(chunks);
        let sent = self
            .queue
            .put_object(parts.map(|part| v1::PutObjectRequest { part }))
            .await;
        if let Some(error) = unread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(PutError::Read(error));
        }
        sent.map_err(|status| self.declined(&status))?;
        Ok(())
    }

    /// Puts an experiment, whose objects the store has, into the queue.
    pub(crate) async fn submit(
        &mut self,
        request: v1::SubmitRequest,
    ) -> Result<v1::SubmitResponse, ClientError> {
        let answer = self.queue.submit(request);
        match tokio::time::timeout(COPY_TIMEOUT, answer).await {
            Ok(answer) => Ok(answer.map_err(|s| self.declined(&s))?.into_inner()),
            Err(_) => Err(silent(&self.address)),
        }
    }

    fn declined(&self, status: &Status) -> ClientError {
        let reason = one_line(status.message()).into_owned();
        match status.code() {
            Code::InvalidArgument | Code::AlreadyExists => ClientError::Unusable(reason),
            Code::FailedPrecondition | Code::DataLoss => ClientError::Refused(reason),
            _ => refused(&self.address, status),
        }
    }
}
