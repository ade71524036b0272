//! A training task: fetch what it needs, train, upload in the background, report the outcome.

use std::sync::Arc;

use quartet_proto::v1;
use quartet_shared::blocking;
use quartet_shared::dataset::Dataset;
use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::position::Position;
use quartet_shared::progress::Phase;
use quartet_store::layout::Layout;
use quartet_store::manifest::StoredSpec;
use quartet_store::manifest::{Manifest, StepManifest};

use super::link::Link;
use super::objects::Objects;
use super::queue::Queue;
use super::running::{Context, Shared, TaskError, complete};
use super::upload;
use crate::executor::{Resume, TrainTask, Trained};

/// Trains `run` to its end.
pub(super) async fn run(
    context: Context,
    run: RunName,
    shared: &Arc<Shared>,
) -> Result<(), TaskError> {
    let layout = Layout::new(context.experiment.clone());
    let stored: StoredSpec = context.objects.json(&layout.spec(), shared).await?;
    let spec = stored
        .experiment
        .run(&run)
        .cloned()
        .ok_or_else(|| TaskError::Failed(format!("the experiment has no run {run}")))?;
    let dataset = dataset(&context.objects, &stored, shared).await?;
    let resume = match context.resume {
        Some(position) => Some(fetch_checkpoint(&context, &layout, &run, position, shared).await?),
        None => None,
    };
    let weights = match stored.weights.get(&run) {
        Some(weights) if resume.is_none() => Some(context.objects.cached(weights, shared).await?),
        _ => None,
    };
    if shared.stop().is_some() {
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
        let link = Link::new(shared, Some(&queue));
        let trained = context.executor.train(task, link).await;
        shared.set_phase(Phase::Uploading);
        trained
    };
    let (trained, uploaded) = tokio::join!(training, upload::run(&context, shared, &queue));
    uploaded?;
    match trained? {
        Trained::Finished(outcome) => {
            let result = v1::complete_request::Result::Training(outcome.into());
            complete(&context, result, shared).await
        }
        Trained::Stopped => Err(TaskError::Stopped),
    }
}

/// The experiment's data, from the cache or the coordinator.
pub(super) async fn dataset(
    objects: &Objects,
    stored: &StoredSpec,
    shared: &Shared,
) -> Result<Dataset, TaskError> {
    let path = objects.cached(&stored.dataset, shared).await?;
    let decode = move || {
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Dataset::decode(&bytes).map_err(|e| format!("{}: {e}", path.display()))
    };
    blocking::run(decode)
        .await
        .map_err(TaskError::failed)?
        .map_err(TaskError::Failed)
}

async fn fetch_checkpoint(
    context: &Context,
    layout: &Layout,
    run: &RunName,
    position: Position,
    shared: &Shared,
) -> Result<Resume, TaskError> {
    let objects = &context.objects;
    let epoch: Option<Manifest> = match position.epoch {
        Epoch(0) => None,
        epoch => Some(objects.json(&layout.manifest(run, epoch), shared).await?),
    };
    let early_stopping = epoch.as_ref().map(|epoch| epoch.early_stopping);
    let (weights, training_state) = match epoch {
        Some(epoch) if position.step == 0 => (epoch.weights, epoch.training_state),
        _ => {
            let key = layout.step_manifest(run, position);
            let state: StepManifest = objects.json(&key, shared).await?;
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
        objects.download(object, path, shared).await?;
    }
    tracing::info!(%run, %position, attempt = %context.lease.attempt, "going on from a checkpoint");
    Ok(resume)
}
