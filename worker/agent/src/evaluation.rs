//! The evaluation task: fetches what each run's best network says of the images, or its weights where that is
//! to be computed; evaluates the ensemble; hands over what was computed, and the report.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use futures::stream;
use quartet_proto::v1::{self, keep_predictions_request::Part};
use quartet_shared::assignment::BestCheckpoint;
use quartet_shared::blob::Blob;
use quartet_shared::chunks::CHUNK_SIZE;
use quartet_shared::human;
use quartet_shared::predictions::{Predictions, Shape};
use quartet_shared::progress::Phase;
use tokio::sync::mpsc;
use tonic::Code;

use super::context::Context;
use super::task_error::TaskError;
use crate::executor::{EvaluateTask, Evaluated, Link, Member, MemberSource, Predicted};

/// Evaluates the ensemble of these members.
pub(super) async fn run(context: &Context, members: &[BestCheckpoint]) -> Result<(), TaskError> {
    let dataset = context.dataset().await?;
    let shape = Shape::of(&dataset);
    let members_here = try_join_all(members.iter().map(|best| member(context, best, &shape)));
    let task = EvaluateTask {
        experiment: context.assignment.experiment.clone(),
        members: members_here.await?,
        dataset: Arc::new(dataset),
    };
    let (predicted, to_keep) = mpsc::unbounded_channel();
    let evaluation = async {
        let link = Link::evaluation(&context.control, predicted);
        let evaluated = context.executor.evaluate(task, link).await;
        context.control.set_phase(Phase::Uploading);
        evaluated
    };
    let (evaluated, kept) = tokio::join!(evaluation, keep_all(context, members, &shape, to_keep));
    kept?;
    let Evaluated::Finished(report) = evaluated? else {
        return Err(TaskError::Stopped);
    };
    for split in &report.splits {
        let best = split.runs.iter().map(|run| run.scores.accuracy);
        tracing::info!(
            split = %split.split,
            ensemble = human::percentage(split.ensemble.accuracy),
            best_run = human::percentage(best.fold(0.0, f64::max)),
            images = split.images,
            "accuracy"
        );
    }
    let json = serde_json::to_vec(&report).map_err(TaskError::failed)?;
    let result = v1::complete_request::Result::Evaluation(json.into());
    context.complete(result).await
}

/// A run with its predictions, or with its best weights on this machine.
async fn member(
    context: &Context,
    best: &BestCheckpoint,
    shape: &Shape,
) -> Result<Member, TaskError> {
    let source = match kept(context, best, shape).await? {
        Some(predictions) => MemberSource::Predictions(predictions),
        None => {
            let weights = format!("{}.best.safetensors", best.run);
            let weights = context.spool.path().join(weights);
            context.objects.download(&best.weights, &weights).await?;
            MemberSource::Weights(weights)
        }
    };
    Ok(Member {
        run: context.run(&best.run)?,
        best_epoch: best.epoch,
        source,
    })
}

/// What an earlier attempt has computed of a run. What is not as it should be is computed again.
async fn kept(
    context: &Context,
    best: &BestCheckpoint,
    shape: &Shape,
) -> Result<Option<Predictions>, TaskError> {
    let Some(object) = &best.predictions else {
        return Ok(None);
    };
    let run = &best.run;
    let path = format!("{run}.predictions.safetensors");
    let path = context.spool.path().join(path);
    let reason = match context.objects.download(object, &path).await {
        Ok(()) => match fs::read(&path).map(|bytes| Predictions::decode(&bytes, shape)) {
            Ok(Ok(predictions)) => {
                tracing::info!(%run, "an earlier attempt has computed the predictions");
                return Ok(Some(predictions));
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        },
        Err(TaskError::Corrupt { reason, .. } | TaskError::Failed(reason)) => reason,
        Err(error) => return Err(error),
    };
    tracing::warn!(%run, %reason, "kept predictions cannot be used and are computed again");
    Ok(None)
}

/// Sends what is predicted to the coordinator until there is no more.
async fn keep_all(
    context: &Context,
    members: &[BestCheckpoint],
    shape: &Shape,
    mut to_keep: mpsc::UnboundedReceiver<Predicted>,
) -> Result<(), TaskError> {
    while let Some((run, predictions)) = to_keep.recv().await {
        let Some(best) = members.iter().find(|best| best.run == run) else {
            continue;
        };
        match keep(context, best, predictions.encode(shape).into()).await {
            Ok(true) => tracing::info!(%run, "predictions kept"),
            Ok(false) => {
                tracing::debug!("the coordinator keeps no predictions");
                break;
            }
            // The evaluation does not need it. Of what is no probability it says more.
            Err(TaskError::Failed(reason)) => {
                tracing::warn!(%run, %reason, "predictions are not kept");
            }
            Err(error) => return Err(error),
        }
    }
    // Whatever still comes is of no use.
    while to_keep.recv().await.is_some() {}
    Ok(())
}

/// Sends the predictions of a run. Returns whether the coordinator keeps any.
async fn keep(context: &Context, best: &BestCheckpoint, file: Bytes) -> Result<bool, TaskError> {
    let header = v1::PredictionsHeader {
        lease: Some(context.assignment.lease.clone().into()),
        secret: context.calls.secret().into(),
        run: best.run.to_string(),
        weights: Some(best.weights.blob.into()),
        predictions: Some(Blob::of(&file).into()),
    };
    let starts = (0..file.len()).step_by(CHUNK_SIZE);
    let chunks = starts.map(|start| file.slice(start..file.len().min(start + CHUNK_SIZE)));
    let parts = std::iter::once(Part::Header(header)).chain(chunks.map(Part::Chunk));
    let messages: Vec<_> = parts
        .map(|part| v1::KeepPredictionsRequest { part: Some(part) })
        .collect();
    let call = || {
        let mut client = context.calls.client();
        let messages = stream::iter(messages.clone());
        async move {
            match client.keep_predictions(messages).await {
                // A coordinator of an earlier version.
                Err(status) if status.code() == Code::Unimplemented => Ok(false),
                sent => sent.map(|_| true),
            }
        }
    };
    context.calls.retry(call).await
}
