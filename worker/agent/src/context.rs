//! What a task needs, and the steps that training and evaluation share.

use std::sync::Arc;
use std::time::Duration;

use quartet_proto::v1;
use quartet_shared::assignment::Assignment;
use quartet_shared::blocking;
use quartet_shared::dataset::Dataset;
use quartet_shared::ids::RunName;
use quartet_shared::spec::RunSpec;

use super::calls::{Calls, limited};
use super::coordinators::CALL_TIMEOUT;
use super::log::{self, TaskLog};
use super::objects::Objects;
use super::spool::Spool;
use super::task_error::TaskError;
use crate::executor::{Executor, TaskControl};

/// What a task needs.
pub(super) struct Context {
    pub(super) assignment: Assignment,
    pub(super) checkpoint_interval: Option<Duration>,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) control: Arc<TaskControl>,
    pub(super) calls: Calls,
    pub(super) objects: Objects,
    pub(super) spool: Spool,
    pub(super) log: Option<TaskLog>,
}

impl Context {
    /// A run of the experiment.
    pub(super) fn run(&self, name: &RunName) -> Result<RunSpec, TaskError> {
        let run = self.assignment.experiment.run(name).cloned();
        run.ok_or_else(|| TaskError::Failed(format!("the experiment has no run {name}")))
    }

    /// The experiment's data, from the cache or the coordinator. Their pixels stay in the file.
    pub(super) async fn dataset(&self) -> Result<Dataset, TaskError> {
        let path = self.objects.cached(&self.assignment.dataset).await?;
        let open =
            move || Dataset::open(&path).map_err(|error| format!("{}: {error}", path.display()));
        blocking::run(open)
            .await
            .map_err(TaskError::failed)?
            .map_err(TaskError::Failed)
    }

    /// Reports the result of the task.
    pub(super) async fn complete(
        &self,
        result: v1::complete_request::Result,
    ) -> Result<(), TaskError> {
        let request = v1::CompleteRequest {
            lease: Some(self.assignment.lease.clone().into()),
            result: Some(result),
            secret: self.calls.secret().into(),
        };
        let lease = &self.assignment.lease;
        tracing::info!(%lease, "task done; the result goes to the coordinator");
        log::send_rest(self).await;
        let complete = || {
            let mut client = self.calls.client();
            let request = limited(request.clone(), CALL_TIMEOUT);
            async move { client.complete(request).await }
        };
        self.calls.retry(complete).await.map(drop)
    }

    /// Reports that the task ended without a result: how and why. Whose task it was is added here.
    pub(super) async fn release(&self, how: v1::ReleaseRequest) -> Result<(), TaskError> {
        let request = v1::ReleaseRequest {
            lease: Some(self.assignment.lease.clone().into()),
            secret: self.calls.secret().into(),
            ..how
        };
        log::send_rest(self).await;
        let release = || {
            let mut client = self.calls.client();
            let request = limited(request.clone(), CALL_TIMEOUT);
            async move { client.release(request).await }
        };
        self.calls.retry(release).await.map(drop)
    }
}
