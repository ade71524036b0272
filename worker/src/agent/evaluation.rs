//! The evaluation task: fetch every run's best weights, evaluate the ensemble, report.

use std::sync::Arc;

use quartet_proto::v1;
use quartet_shared::checkpoint::{Manifest, Outcome};
use quartet_shared::layout::Layout;
use quartet_shared::spec::StoredSpec;

use super::link::Link;
use super::running::{Context, Shared, TaskError, complete};
use super::training;
use crate::evaluate::{EvaluateTask, Evaluated, Member};

/// Evaluates the ensemble of all runs.
pub(super) async fn run(context: Context, shared: &Arc<Shared>) -> Result<(), TaskError> {
    let layout = Layout::new(context.experiment.clone());
    let stored: StoredSpec = context.objects.json(&layout.spec(), shared).await?;
    let dataset = training::dataset(&context.objects, &stored, shared).await?;
    let mut members = Vec::new();
    for run in &stored.experiment.runs {
        let outcome: Outcome = context
            .objects
            .json(&layout.outcome(&run.name), shared)
            .await?;
        let manifest: Manifest = context
            .objects
            .json(&layout.manifest(&run.name, outcome.best_epoch), shared)
            .await?;
        let weights = context
            .spool
            .path()
            .join(format!("{}.best.safetensors", run.name));
        context
            .objects
            .download(&manifest.weights, &weights, shared)
            .await?;
        members.push(Member {
            run: run.clone(),
            best_epoch: outcome.best_epoch,
            weights,
        });
    }
    let task = EvaluateTask {
        experiment: stored.experiment,
        members,
        dataset: Arc::new(dataset),
    };
    let link = Link::new(shared, None);
    let Evaluated::Finished(report) = context.compute.evaluate(task, link).await? else {
        return Err(TaskError::Stopped);
    };
    let json = serde_json::to_vec(&report).map_err(TaskError::failed)?;
    complete(
        &context,
        v1::complete_request::Result::Evaluation(json),
        shared,
    )
    .await
}
