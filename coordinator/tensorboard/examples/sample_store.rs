//! Writes a store with an experiment whose metrics are made up, and its event files, so that TensorBoard can
//! be tried without training: `sample_store STORE RUNS EPOCHS`. The experiment's name is `sample`.
//!
//! The first run diverges, and the last one has failed for good.

use anyhow::Context;
use bytes::Bytes;
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::clock::Timestamp;
use quartet_shared::dataset::{Channels, Dataset, Images};
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::event::{Event, Occurrence};
use quartet_shared::ids::{Attempt, Epoch, RunName, Term};
use quartet_shared::outcome::{Outcome, StopReason};
use quartet_shared::progress::EpochMetrics;
use quartet_shared::spec::{ExperimentSpec, Preset, RunSpec, derived_seed};
use quartet_shared::task::Task;
use quartet_store::Store;
use quartet_store::layout::{self, Layout};
use quartet_store::manifest::{Manifest, StoredSpec};
use quartet_tensorboard::write_missing;

const TRAINING_IMAGES: usize = 100;
const CREATED_AT: u64 = 1_795_727_935;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || {
        arguments
            .next()
            .context("use: sample_store STORE RUNS EPOCHS")
    };
    let (store, runs, epochs) = (Store::open(&next()?)?, next()?.parse()?, next()?.parse()?);

    let experiment = spec(runs, epochs)?;
    let layout = Layout::new(experiment.name.clone());
    let dataset = dataset().encode();
    let blob = Blob::of(&dataset);
    let key = layout::dataset(blob.sha256);
    store.create(&key, dataset.into()).await?;
    let stored = StoredSpec {
        note: None,
        tags: Vec::new(),
        forked_from: None,
        revised: None,
        format: 1,
        id: None,
        experiment,
        dataset: BlobRef { key, blob },
        weights: Default::default(),
        data_fingerprint: None,
        data_origin: None,
        origins: Default::default(),
        created_at: Some(Timestamp::from_seconds(CREATED_AT)),
    };
    store.create_json(&layout.spec(), &stored).await?;
    let names: Vec<&RunName> = stored.experiment.runs.iter().map(|run| &run.name).collect();
    for (index, name) in names.iter().enumerate() {
        for epoch in 1..=epochs {
            let manifest = manifest(name, index, epoch);
            let key = layout.manifest(name, Epoch(epoch));
            store.create_json(&key, &manifest).await?;
        }
    }
    let (failed, trained) = names.split_last().context("use at least one run")?;
    for name in trained {
        let outcome = Outcome {
            epochs,
            best_epoch: Epoch(epochs),
            best_valid_accuracy: 0.5,
            stop_reason: StopReason::Epochs,
        };
        store.create_json(&layout.outcome(name), &outcome).await?;
    }
    let failure = Event {
        at: Timestamp::from_seconds(CREATED_AT + 100_000),
        what: Occurrence::TaskFailed {
            task: Task::Train((*failed).clone()),
            reason: "failed 4 times".to_owned(),
        },
    };
    let key = layout.events(Term(1), 1);
    store.create_json(&key, &[failure]).await?;

    let record = quartet_history::read(&store, &stored.experiment.name).await?;
    write_missing(&store, &record, TRAINING_IMAGES as u64).await?;
    Ok(())
}

fn spec(runs: usize, epochs: u32) -> anyhow::Result<ExperimentSpec> {
    let mut experiment = Preset::Demo.spec();
    experiment.name = "sample".parse()?;
    experiment.epochs = epochs;
    let backbones = experiment.runs.iter().cycle().take(runs).enumerate();
    experiment.runs = backbones
        .map(|(index, run)| {
            let name: RunName = format!("{index:02}-{}", run.name).parse()?;
            let seed = derived_seed(experiment.seed, &name);
            let run = run.clone();
            Ok(RunSpec { name, seed, ..run })
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(experiment)
}

/// Images of one pixel.
fn dataset() -> Dataset {
    let images = |count: usize| Images {
        labels: (0..count).map(|index| (index % 2) as u8).collect(),
        pixels: vec![0; count],
        ..Images::default()
    };
    Dataset {
        width: 1,
        height: 1,
        channels: Channels::Gray,
        classes: vec!["happy".to_owned(), "sad".to_owned()],
        splits: [images(TRAINING_IMAGES), images(20), images(20)],
    }
}

fn manifest(run: &RunName, index: usize, epoch: u32) -> Manifest {
    let after = f64::from(epoch);
    let accuracy = 1.0 - 1.0 / (1.5 + 0.1 * after + 0.01 * index as f64);
    let metrics = EpochMetrics {
        train_loss: if index == 0 && epoch > 2 {
            f64::NAN
        } else {
            2.0 / after
        },
        train_accuracy: accuracy,
        valid_loss: if index == 0 && epoch > 1 {
            f64::INFINITY
        } else {
            2.2 / after
        },
        valid_accuracy: accuracy * 0.9,
        images_per_second: 1000.0 + after,
        seconds: 30.0 + 0.1 * after,
    };
    Manifest {
        run: run.clone(),
        epoch: Epoch(epoch),
        attempt: Attempt(1),
        worker: "w1".parse().expect("this is a valid name"),
        revision: quartet_shared::ids::Revision::FIRST,
        committed_at: Some(Timestamp::from_seconds(CREATED_AT + 31 * u64::from(epoch))),
        metrics,
        early_stopping: EarlyStopping::observe(None, Epoch(epoch), metrics.valid_accuracy),
        weights: blob(),
        training_state: blob(),
    }
}

fn blob() -> BlobRef {
    BlobRef {
        key: "nothing".to_owned(),
        blob: Blob::of(&Bytes::new()),
    }
}
