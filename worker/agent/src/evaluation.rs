//! The evaluation task: fetches every run's best weights, evaluates the ensemble, and reports.

use std::sync::Arc;

use futures::future::try_join_all;
use quartet_proto::v1;
use quartet_shared::assignment::BestCheckpoint;

use super::context::Context;
use super::task_error::TaskError;
use crate::executor::{EvaluateTask, Evaluated, Link, Member};

/// A run with its best weights on this machine.
async fn member(context: &Context, best: &BestCheckpoint) -> Result<Member, TaskError> {
    let weights = format!("{}.best.safetensors", best.run);
    let weights = context.spool.path().join(weights);
    context.objects.download(&best.weights, &weights).await?;
    Ok(Member {
        run: context.run(&best.run)?,
        best_epoch: best.epoch,
        weights,
    })
}

/// Evaluates the ensemble of all runs.
pub(super) async fn run(context: &Context, members: &[BestCheckpoint]) -> Result<(), TaskError> {
    let dataset = context.dataset().await?;
    let members = try_join_all(members.iter().map(|best| member(context, best))).await?;
    let task = EvaluateTask {
        experiment: context.assignment.experiment.clone(),
        members,
        dataset: Arc::new(dataset),
    };
    let link = Link::new(&context.control, None);
    let Evaluated::Finished(report) = context.executor.evaluate(task, link).await? else {
        return Err(TaskError::Stopped);
    };
    let json = serde_json::to_vec(&report).map_err(TaskError::failed)?;
    let result = v1::complete_request::Result::Evaluation(json.into());
    context.complete(result).await
}
