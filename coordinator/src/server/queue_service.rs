//! What people do with the queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use quartet_identity::Access;
use quartet_proto::v1::{self, put_object_request};
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::ids::{ExperimentName, RunName};
use quartet_shared::label::{self, MAX_REASON};
use quartet_shared::wire::required;
use quartet_status::queue::{OpenExperiment, QueueEntry, QueueState};
use quartet_store::layout;
use tonic::{Request, Response, Status, Streaming};

use super::queue_runner::{News, QueueRunner};
use super::refusal::{bad, broke_off, missing, store_failed};
use super::registry::{Open, Registry};
use super::snapshots::snapshot;
use super::transaction::{Receiver, Sender};
use crate::experiment::submit::{Submission, SubmitError};
use crate::leadership::LeadershipError;
use crate::queue::How;

/// Entries that have ended, of which people hear.
const SHOWN_ENDED: usize = 20;

/// Objects that a client may ask for at once.
const MOST_OBJECTS: usize = 1000;

pub(super) struct QueueService {
    pub(super) registry: Arc<Registry>,
    /// Absent where there is but one experiment.
    pub(super) runner: Option<Arc<QueueRunner>>,
}

impl QueueService {
    /// The queue, and who wants to change it.
    fn to_change<T>(
        &self,
        request: &Request<T>,
    ) -> Result<(Arc<QueueRunner>, Option<String>), Status> {
        let policy = self.registry.policy;
        let by = policy.check(request.extensions(), Access::Change)?;
        let by = by.map(str::to_owned);
        let runner = self.runner.clone().ok_or_else(|| {
            Status::failed_precondition(
                "this coordinator trains one experiment; `coordinator --serve` has a queue",
            )
        })?;
        Ok((runner, by))
    }
}

impl Registry {
    /// The experiments that are open, as people see them.
    fn open_entries(&self) -> impl Iterator<Item = (ExperimentName, OpenExperiment)> {
        let all = self.all().into_iter();
        all.map(|open| (open.shell.name().clone(), open.summary()))
    }
}

impl Open {
    fn summary(&self) -> OpenExperiment {
        let snapshot = snapshot(&self.shell);
        let ended = snapshot.runs.iter().filter(|run| run.state.has_ended());
        OpenExperiment {
            state: snapshot.state,
            runs: snapshot.runs.len(),
            runs_ended: ended.count(),
            workers: snapshot.workers_present(),
            eta: snapshot.eta,
        }
    }
}

impl QueueRunner {
    /// What waits, what is trained and what has ended, in this order.
    pub(super) fn entries(&self) -> Vec<QueueEntry> {
        let mut open: BTreeMap<_, _> = self.registry().open_entries().collect();
        let waiting = self.queue.waiting().into_iter().map(|(_, entry)| {
            let open = open.remove(&entry.experiment);
            QueueEntry {
                state: match open {
                    Some(_) => QueueState::Open,
                    None => QueueState::Waiting,
                },
                experiment: entry.experiment,
                priority: entry.priority,
                submitted_at: Some(entry.submitted_at),
                submitted_by: entry.submitted_by,
                ended_at: None,
                reason: None,
                open,
            }
        });
        let waiting: Vec<_> = waiting.collect();
        let ended = self.queue.ended().into_iter().take(SHOWN_ENDED);
        let ended = ended.map(|(entry, ended)| QueueEntry {
            experiment: entry.experiment,
            state: match ended.how {
                How::Finished => QueueState::Finished,
                How::Failed => QueueState::Failed,
                How::Cancelled => QueueState::Cancelled,
            },
            priority: entry.priority,
            submitted_at: Some(entry.submitted_at),
            submitted_by: entry.submitted_by,
            ended_at: Some(ended.at),
            reason: (!ended.reason.is_empty()).then_some(ended.reason),
            open: None,
        });
        waiting.into_iter().chain(ended).collect()
    }

    /// The same for the page: what waits and what is trained.
    pub(super) fn queue_for_page(&self) -> Vec<QueueEntry> {
        let mut entries = self.entries();
        entries.retain(|entry| entry.ended_at.is_none());
        entries
    }
}

#[tonic::async_trait]
impl v1::queue_server::Queue for QueueService {
    async fn get_queue(
        &self,
        _: Request<v1::GetQueueRequest>,
    ) -> Result<Response<v1::GetQueueResponse>, Status> {
        let (entries, term) = match &self.runner {
            Some(runner) => (runner.entries(), runner.queue.term().0),
            None => {
                let only = self
                    .registry
                    .open_entries()
                    .map(|(experiment, open)| QueueEntry::only(experiment, open));
                (only.collect(), 0)
            }
        };
        let waiting = u32::try_from(self.registry.waiting()).unwrap_or(u32::MAX);
        Ok(Response::new(v1::GetQueueResponse {
            entries: entries.into_iter().map(Into::into).collect(),
            term,
            waiting_workers: waiting,
        }))
    }

    async fn find_missing(
        &self,
        request: Request<v1::FindMissingRequest>,
    ) -> Result<Response<v1::FindMissingResponse>, Status> {
        let (runner, _) = self.to_change(&request)?;
        let objects = request.into_inner().objects;
        if objects.len() > MOST_OBJECTS {
            return Err(bad(format!(
                "ask for at most {MOST_OBJECTS} objects at once"
            )));
        }
        let mut missing = Vec::new();
        for object in objects {
            let BlobRef { key, .. } = object_of(object.clone())?;
            let exists = runner.queue.store().exists(&key).await;
            if !exists.map_err(|error| store_failed(&error))? {
                missing.push(object);
            }
        }
        Ok(Response::new(v1::FindMissingResponse { missing }))
    }

    async fn put_object(
        &self,
        request: Request<Streaming<v1::PutObjectRequest>>,
    ) -> Result<Response<v1::PutObjectResponse>, Status> {
        let (runner, by) = self.to_change(&request)?;
        let mut parts = Sender::new(request.into_inner());
        let Some(v1::PutObjectRequest {
            part: Some(put_object_request::Part::Header(header)),
        }) = parts.next().await?
        else {
            return Err(bad("the first message must be a header"));
        };
        let object = object_of(header)?;
        parts.expect(object.blob.size);
        let failed = |error| {
            tracing::error!(%error, "the store failed");
            store_failed(&error)
        };
        let store = runner.queue.store();
        if !store.exists(&object.key).await.map_err(failed)? {
            Receiver::new(store, &failed, &mut parts, |_| {})
                .blobs([&object])
                .await?;
            tracing::info!(key = object.key, by, "object put");
        }
        Ok(Response::new(v1::PutObjectResponse {}))
    }

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let (runner, by) = self.to_change(&request)?;
        let request = request.into_inner();
        let priority = request.priority;
        let submission = submission(request)?;
        // On a task of its own, so that what has begun is finished even if the caller goes away.
        let submitted =
            tokio::spawn(async move { submit(&runner, submission, priority, by).await });
        let submitted = submitted
            .await
            .map_err(|error| broke_off("the submission", &error))??;
        Ok(Response::new(submitted))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        let (runner, by) = self.to_change(&request)?;
        let name = request.into_inner().experiment;
        let experiment: ExperimentName = name.parse().map_err(bad)?;
        let reason = match &by {
            Some(by) => format!("by {by}"),
            None => String::new(),
        };
        // On a task of its own, as a submission.
        let name = experiment.clone();
        let cancel = tokio::spawn(async move { runner.cancel(&name, &reason).await });
        let cancelled = cancel
            .await
            .map_err(|error| broke_off("the cancellation", &error))?;
        let was_open = cancelled.map_err(leadership_failed)?.ok_or_else(|| {
            Status::not_found(format!(
                "experiment {experiment} neither waits nor is trained; `status queue` shows what does"
            ))
        })?;
        tracing::info!(%experiment, by, "cancelled");
        Ok(Response::new(v1::CancelResponse { was_open }))
    }
}

async fn submit(
    runner: &QueueRunner,
    submission: Submission,
    priority: i32,
    by: Option<String>,
) -> Result<v1::SubmitResponse, Status> {
    let experiment = submission.experiment.name.clone();
    let precision = submission.experiment.precision;
    let put = submission.put(runner.queue.store()).await;
    let weights = put.map_err(|error| match error {
        SubmitError::Invalid(_) => bad(error),
        SubmitError::Exists(_) => Status::already_exists(error.to_string()),
        SubmitError::Unavailable(_) => Status::unavailable(error.to_string()),
        SubmitError::Store(error) => {
            tracing::error!(%error, "the store failed");
            store_failed(&error)
        }
    })?;
    let added = runner
        .queue
        .add(experiment.clone(), precision, priority, by.clone());
    let added = added
        .await
        .map_err(|error| Status::unavailable(format!("{error:#}")))?;
    let waiting = runner.queue.waiting();
    let place = waiting
        .iter()
        .position(|(_, entry)| entry.experiment == experiment);
    let before = place.unwrap_or_default();
    if added {
        tracing::info!(%experiment, priority, by, "submitted");
        runner.tell(News::Submitted { experiment, before });
        runner.registry().changed.notify_one();
    }
    Ok(v1::SubmitResponse {
        before: u32::try_from(before).unwrap_or(u32::MAX),
        known: !added,
        priority: waiting
            .get(before)
            .map_or(priority, |(_, entry)| entry.priority),
        weights,
    })
}

fn leadership_failed(error: LeadershipError) -> Status {
    match error {
        LeadershipError::Store(error) => store_failed(&error),
        LeadershipError::Replaced(error) => super::refusal::replaced(&error),
    }
}

/// The object of the store that has this content.
fn object_of(content: v1::ObjectContent) -> Result<BlobRef, Status> {
    let kind = content.kind();
    let blob: Blob = required(content.blob, "blob").map_err(bad)?;
    let key = match kind {
        v1::ObjectKind::Dataset => layout::dataset(blob.sha256),
        v1::ObjectKind::Weights => layout::weights(blob.sha256),
        v1::ObjectKind::Unspecified => return Err(missing("kind")),
    };
    Ok(BlobRef { key, blob })
}

fn submission(request: v1::SubmitRequest) -> Result<Submission, Status> {
    let experiment = serde_json::from_slice(&request.experiment);
    let weights = request.weights.into_iter().map(|(run, blob)| {
        let run: RunName = run.parse().map_err(bad)?;
        let blob = Blob::try_from(blob).map_err(bad)?;
        Ok::<_, Status>((run, blob))
    });
    Ok(Submission {
        experiment: experiment.map_err(|error| bad(format!("experiment: {error}")))?,
        dataset: required(request.dataset, "dataset").map_err(bad)?,
        weights: weights.collect::<Result<_, _>>()?,
        origins: match &request.origins[..] {
            [] => BTreeMap::new(),
            json => serde_json::from_slice(json).map_err(|e| bad(format!("origins: {e}")))?,
        },
        data_origin: match &label::shortened(&label::one_line(&request.data_origin), MAX_REASON)[..]
        {
            "" => None,
            origin => Some(origin.to_owned()),
        },
        note: (!request.note.is_empty()).then_some(request.note),
        tags: request.tags,
    })
}
