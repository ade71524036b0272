//! Assignments: what a worker needs to begin a task, as the store has it.

use futures::future::try_join_all;
use quartet_history::predictions;
use quartet_shared::assignment::{Assignment, BestCheckpoint, CheckpointRef, Inputs, Start};
use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::position::Position;
use quartet_shared::task::Task;
use quartet_store::StoreError;
use quartet_store::manifest::{Manifest, StepManifest};
use serde::de::DeserializeOwned;

use super::shell::Shell;
use crate::experiment::Experiment;
use crate::scheduler::{Grant, Run};

/// Why there is no assignment.
#[derive(Debug, thiserror::Error)]
pub(super) enum AssignmentError {
    /// The store fails, or an object in it cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object is not there.
    #[error(transparent)]
    Missing(#[from] MissingObject),
}

/// An object that a task needs is not in the store.
#[derive(Debug, thiserror::Error)]
#[error("{key} is missing")]
pub(super) struct MissingObject {
    pub(super) key: String,
}

/// Reads what the worker of a grant needs.
pub(super) async fn read(shell: &Shell, grant: &Grant) -> Result<Assignment, AssignmentError> {
    let experiment = &shell.experiment;
    let inputs = match &grant.lease.task {
        Task::Train(run) => Inputs::Training {
            run: run.clone(),
            start: start(experiment, run, grant.resume).await?,
        },
        Task::Evaluate => {
            // Those that failed are left out.
            let finished: Vec<RunName> = shell.scheduler.read(|scheduler, _| {
                let finished = scheduler.runs().iter();
                let finished = finished.filter(|run| run.is_finished());
                finished.map(|run| run.settings.name.clone()).collect()
            });
            let members = finished.iter().map(|run| best_checkpoint(shell, run));
            Inputs::Evaluation {
                members: try_join_all(members).await?,
            }
        }
    };
    Ok(Assignment {
        lease: grant.lease.clone(),
        experiment: experiment.spec.experiment.clone(),
        dataset: experiment.spec.dataset.clone(),
        inputs,
    })
}

async fn start(
    experiment: &Experiment,
    run: &RunName,
    position: Position,
) -> Result<Start, AssignmentError> {
    let layout = &experiment.layout;
    if position == Position::default() {
        let weights = experiment.spec.weights.get(run).cloned();
        return Ok(weights.map_or(Start::Random, Start::Pretrained));
    }
    let epoch: Option<Manifest> = match position.epoch {
        Epoch(0) => None,
        epoch => Some(required(experiment, layout.manifest(run, epoch)).await?),
    };
    let early_stopping = epoch.as_ref().map(|epoch| epoch.early_stopping);
    let (weights, training_state) = match epoch {
        Some(epoch) if position.step == 0 => (epoch.weights, epoch.training_state),
        _ => {
            let key = layout.step_manifest(run, position);
            let step: StepManifest = required(experiment, key).await?;
            (step.weights, step.training_state)
        }
    };
    Ok(Start::Checkpoint(CheckpointRef {
        position,
        early_stopping,
        weights,
        training_state,
    }))
}

async fn best_checkpoint(shell: &Shell, run: &RunName) -> Result<BestCheckpoint, AssignmentError> {
    let Experiment { store, layout, .. } = &shell.experiment;
    let Manifest { epoch, weights, .. } = best_manifest(shell, run).await?;
    Ok(BestCheckpoint {
        run: run.clone(),
        epoch,
        predictions: predictions::kept(store, layout, run, &weights).await?,
        weights,
    })
}

/// The manifest of the best epoch of a finished run.
pub(super) async fn best_manifest(
    shell: &Shell,
    run: &RunName,
) -> Result<Manifest, AssignmentError> {
    let layout = &shell.experiment.layout;
    // Its outcome follows from its last epoch.
    let outcome = shell.scheduler.read(|scheduler, _| {
        let run = scheduler.run(run);
        run.and_then(Run::outcome)
    });
    let key = layout.outcome(run);
    let epoch = outcome.ok_or(MissingObject { key })?.best_epoch;
    required(&shell.experiment, layout.manifest(run, epoch)).await
}

/// The value of a JSON object that must be there.
async fn required<T: DeserializeOwned>(
    experiment: &Experiment,
    key: String,
) -> Result<T, AssignmentError> {
    let value = experiment.store.read_json(&key).await?;
    value.ok_or_else(|| MissingObject { key }.into())
}
