//! A training task: fetches what it needs, trains, uploads in the background, and reports the outcome.

use std::path::PathBuf;
use std::sync::Arc;

use quartet_proto::v1;
use quartet_shared::assignment::{CheckpointRef, Start};
use quartet_shared::ids::RunName;
use quartet_shared::progress::Phase;

use super::context::Context;
use super::task_error::TaskError;
use super::upload;
use crate::executor::{Link, Queue, Resume, TrainTask, Trained};

/// Trains `run` to its end.
pub(super) async fn run(context: &Context, run: &RunName, start: &Start) -> Result<(), TaskError> {
    let spec = context.run(run)?;
    let dataset = context.dataset().await?;
    let (weights, resume) = fetch(context, run, start).await?;
    if context.control.stop().is_some() {
        // Everything that there is is committed.
        return Err(TaskError::Stopped);
    }
    let task = TrainTask {
        experiment: context.assignment.experiment.clone(),
        run: spec,
        dataset: Arc::new(dataset),
        weights,
        resume,
        checkpoint_interval: context.checkpoint_interval,
    };
    let queue = Arc::new(Queue::default());
    let training = async {
        let link = Link::training(&context.control, &queue);
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

/// Fetches what the parameters come from: the file of initial weights, or the checkpoint.
async fn fetch(
    context: &Context,
    run: &RunName,
    start: &Start,
) -> Result<(Option<PathBuf>, Option<Resume>), TaskError> {
    match start {
        Start::Random => Ok((None, None)),
        Start::Pretrained(weights) => Ok((Some(context.objects.cached(weights).await?), None)),
        Start::Checkpoint(checkpoint) => {
            let resume = fetch_checkpoint(context, checkpoint).await?;
            let (position, attempt) = (checkpoint.position, context.assignment.lease.attempt);
            tracing::info!(%run, %position, %attempt, "going on from a checkpoint");
            Ok((None, Some(resume)))
        }
    }
}

async fn fetch_checkpoint(
    context: &Context,
    checkpoint: &CheckpointRef,
) -> Result<Resume, TaskError> {
    let file = |name: &str| context.spool.path().join(name);
    let resume = Resume {
        position: checkpoint.position,
        early_stopping: checkpoint.early_stopping,
        weights: file("resume.weights.safetensors"),
        training_state: file("resume.state.safetensors"),
    };
    for (object, path) in [
        (&checkpoint.weights, &resume.weights),
        (&checkpoint.training_state, &resume.training_state),
    ] {
        context.objects.download(object, path).await?;
    }
    Ok(resume)
}
