//! A training task: fetches what it needs, trains, uploads in the background, and reports the outcome.

use std::sync::Arc;

use quartet_proto::v1;
use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::position::Position;
use quartet_shared::progress::Phase;
use quartet_store::layout::Layout;
use quartet_store::manifest::{Manifest, StepManifest, StoredSpec};

use super::context::Context;
use super::task_error::TaskError;
use super::upload;
use crate::executor::{Link, Queue, Resume, TrainTask, Trained};

/// Trains `run` to its end.
pub(super) async fn run(context: &Context, run: &RunName) -> Result<(), TaskError> {
    let layout = Layout::new(context.experiment.clone());
    let stored: StoredSpec = context.objects.json(&layout.spec()).await?;
    let spec = stored
        .experiment
        .run(run)
        .cloned()
        .ok_or_else(|| TaskError::Failed(format!("the experiment has no run {run}")))?;
    let dataset = context.dataset(&stored).await?;
    let resume = match context.resume {
        Some(position) => Some(fetch_checkpoint(context, &layout, run, position).await?),
        None => None,
    };
    let weights = match stored.weights.get(run) {
        Some(weights) if resume.is_none() => Some(context.objects.cached(weights).await?),
        _ => None,
    };
    if context.control.stop().is_some() {
        // Everything that there is is committed.
        return Err(TaskError::Stopped);
    }
    let task = TrainTask {
        experiment: stored.experiment,
        run: spec,
        dataset: Arc::new(dataset),
        weights,
        resume,
        checkpoint_interval: context.checkpoint_interval,
    };
    let queue = Arc::new(Queue::default());
    let training = async {
        let link = Link::new(&context.control, Some(&queue));
        let trained = context.executor.train(task, link).await;
        context.control.set_phase(Phase::Uploading);
        trained
    };
    let (trained, uploaded) = tokio::join!(training, upload::run(context, &queue));
    uploaded?;
    match trained? {
        Trained::Finished(outcome) => {
            let result = v1::complete_request::Result::Training(outcome.into());
            context.complete(result).await
        }
        Trained::Stopped => Err(TaskError::Stopped),
    }
}

async fn fetch_checkpoint(
    context: &Context,
    layout: &Layout,
    run: &RunName,
    position: Position,
) -> Result<Resume, TaskError> {
    let objects = &context.objects;
    let epoch: Option<Manifest> = match position.epoch {
        Epoch(0) => None,
        epoch => Some(objects.json(&layout.manifest(run, epoch)).await?),
    };
    let early_stopping = epoch.as_ref().map(|epoch| epoch.early_stopping);
    let (weights, training_state) = match epoch {
        Some(epoch) if position.step == 0 => (epoch.weights, epoch.training_state),
        _ => {
            let key = layout.step_manifest(run, position);
            let state: StepManifest = objects.json(&key).await?;
            (state.weights, state.training_state)
        }
    };
    let file = |name: &str| context.spool.path().join(name);
    let resume = Resume {
        position,
        early_stopping,
        weights: file("resume.weights.safetensors"),
        training_state: file("resume.state.safetensors"),
    };
    for (object, path) in [
        (&weights, &resume.weights),
        (&training_state, &resume.training_state),
    ] {
        objects.download(object, path).await?;
    }
    tracing::info!(%run, %position, attempt = %context.lease.attempt, "going on from a checkpoint");
    Ok(resume)
}
