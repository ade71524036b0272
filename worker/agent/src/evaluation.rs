//! The evaluation task: fetches every run's best weights, evaluates the ensemble, and reports.

use std::sync::Arc;

use futures::future::try_join_all;
use quartet_proto::v1;
use quartet_shared::outcome::Outcome;
use quartet_shared::spec::RunSpec;
use quartet_store::layout::Layout;
use quartet_store::manifest::{Manifest, StoredSpec};

use super::context::Context;
use super::task_error::TaskError;
use crate::executor::{EvaluateTask, Evaluated, Link, Member};

/// A run with its best weights on this machine.
async fn member(context: &Context, layout: &Layout, run: &RunSpec) -> Result<Member, TaskError> {
    let Context { objects, spool, .. } = context;
    let outcome: Outcome = objects.json(&layout.outcome(&run.name)).await?;
    let manifest = layout.manifest(&run.name, outcome.best_epoch);
    let manifest: Manifest = objects.json(&manifest).await?;
    let weights = spool.path().join(format!("{}.best.safetensors", run.name));
    objects.download(&manifest.weights, &weights).await?;
    Ok(Member {
        run: run.clone(),
        best_epoch: outcome.best_epoch,
        weights,
    })
}

/// Evaluates the ensemble of all runs.
pub(super) async fn run(context: &Context) -> Result<(), TaskError> {
    let layout = Layout::new(context.experiment.clone());
    let stored: StoredSpec = context.objects.json(&layout.spec()).await?;
    let dataset = context.dataset(&stored).await?;
    let runs = stored.experiment.runs.iter();
    let members = runs.map(|run| member(context, &layout, run));
    let members = try_join_all(members).await?;
    let task = EvaluateTask {
        experiment: stored.experiment,
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
