//! A training task: fetch what it needs, train on a thread, upload in the background, report the outcome.

use std::path::Path;
use std::sync::Arc;

use quartet_proto::v1;
use quartet_shared::checkpoint::Manifest;
use quartet_shared::dataset::Dataset;
use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::layout::Layout;
use quartet_shared::spec::StoredSpec;
use tokio::sync::mpsc;

use super::link::Link;
use super::objects::Objects;
use super::running::{Context, Shared, Stop, TaskError, complete, on_thread};
use super::upload;
use crate::train::{self, Resume, TrainError, TrainTask, Trained};

/// Finished epochs that may wait for their upload. Each holds a copy of weights and moments in memory.
const UPLOADS_WAITING: usize = 1;

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
        Some(epoch) => Some(fetch_checkpoint(&context, &layout, &run, epoch, shared).await?),
        None => None,
    };
    let weights = match stored.weights.get(&run) {
        Some(weights) if resume.is_none() => Some(context.objects.cached(weights, shared).await?),
        _ => None,
    };
    let source = spec.weights.to_string();
    let task = TrainTask {
        experiment: stored.experiment,
        run: spec,
        dataset: Arc::new(dataset),
        device: context.device.device.clone(),
        weights,
        resume,
    };
    let (sender, receiver) = mpsc::channel(UPLOADS_WAITING);
    let mut link = Link::new(shared, Some(sender));
    let training = on_thread("train", move || {
        train::train(&task, &mut link).map_err(|error| match error {
            // Retrying would not help.
            TrainError::Weights(error) => {
                let reason = format!("{:#}", anyhow::Error::from(error));
                // The cached file's name says nothing to people.
                let cached = task.weights.as_deref().unwrap_or(Path::new(""));
                let reason = reason.replace(&*cached.to_string_lossy(), &source);
                TaskError::Rejected(format!("weights cannot be used: {reason}"))
            }
            error => TaskError::failed(error),
        })
    });
    let uploading = async {
        let uploaded = upload::run(&context, shared, receiver).await;
        if uploaded.is_err() {
            shared.request_stop(Stop::Drop);
        }
        uploaded
    };
    let (trained, uploaded) = tokio::join!(training, uploading);
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
    tokio::task::spawn_blocking(decode)
        .await
        .map_err(TaskError::failed)?
        .map_err(TaskError::Failed)
}

async fn fetch_checkpoint(
    context: &Context,
    layout: &Layout,
    run: &RunName,
    epoch: Epoch,
    shared: &Shared,
) -> Result<Resume, TaskError> {
    let manifest: Manifest = context
        .objects
        .json(&layout.manifest(run, epoch), shared)
        .await?;
    let weights = context.spool.path().join("resume.weights.safetensors");
    let training_state = context.spool.path().join("resume.state.safetensors");
    context
        .objects
        .download(&manifest.weights, &weights, shared)
        .await?;
    context
        .objects
        .download(&manifest.training_state, &training_state, shared)
        .await?;
    tracing::info!(%run, %epoch, attempt = %context.lease.attempt, "going on from a checkpoint");
    Ok(Resume {
        epoch,
        early_stopping: manifest.early_stopping,
        weights,
        training_state,
    })
}
