//! How far the runs are, read from the store when a coordinator starts.

use anyhow::Context;
use quartet_shared::checkpoint::{Manifest, Outcome};
use quartet_shared::ids::{Attempt, RunName};

use super::Experiment;
use crate::scheduler::{CommittedEpoch, History, RunHistory};

/// Reads the history of every run and of the evaluation.
pub async fn read(experiment: &Experiment) -> anyhow::Result<History> {
    let mut runs = Vec::new();
    for run in &experiment.spec.experiment.runs {
        runs.push(read_run(experiment, &run.name).await?);
    }
    let evaluated = experiment
        .store
        .exists(&experiment.layout.evaluation())
        .await?;
    Ok(History { runs, evaluated })
}

async fn read_run(experiment: &Experiment, run: &RunName) -> anyhow::Result<RunHistory> {
    let Experiment { store, layout, .. } = experiment;
    let last = match store.list(&layout.manifests(run)).await?.last() {
        Some(key) => Some(
            store
                .read_json::<Manifest>(key)
                .await?
                .with_context(|| format!("{key} vanished"))?,
        ),
        None => None,
    };
    let outcome = store.read_json::<Outcome>(&layout.outcome(run)).await?;
    // Blobs that no manifest names bear witness to later attempts.
    let blobs = store.list(&layout.checkpoints(run)).await?;
    let attempts = blobs.iter().filter_map(|key| attempt_of(key));
    let attempt = attempts
        .chain(last.as_ref().map(|manifest| manifest.attempt))
        .max();
    Ok(RunHistory {
        run: run.clone(),
        attempt: attempt.unwrap_or_default(),
        committed: last.map(|manifest| {
            let Manifest {
                epoch,
                metrics,
                early_stopping,
                ..
            } = manifest;
            (
                epoch,
                CommittedEpoch {
                    metrics,
                    early_stopping,
                },
            )
        }),
        outcome,
    })
}

/// The attempt in the name of a checkpoint blob, `<epoch>-<attempt>.<kind>.safetensors`.
fn attempt_of(key: &str) -> Option<Attempt> {
    let name = key.rsplit('/').next()?;
    let (_, attempt) = name.split('.').next()?.split_once('-')?;
    attempt.parse().ok().map(Attempt)
}

#[cfg(test)]
mod tests {
    use quartet_shared::checkpoint::Position;
    use quartet_shared::ids::Epoch;
    use quartet_shared::layout::Layout;

    use super::*;

    #[test]
    fn the_attempt_is_read_back_from_the_layout_s_keys() {
        let layout = Layout::new("e".parse().unwrap());
        let run = "a-1.b".parse().unwrap();
        for key in [
            layout.weights(&run, Position::end_of(Epoch(12)), Attempt(7)),
            layout.training_state(&run, Position::within(Epoch(12), 450), Attempt(7)),
        ] {
            assert_eq!(attempt_of(&key), Some(Attempt(7)), "{key}");
        }
        assert_eq!(attempt_of("e/runs/a/checkpoints/other.txt"), None);
    }
}
