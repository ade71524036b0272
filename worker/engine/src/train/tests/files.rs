//! The files of checkpoints.

use std::fs;
use std::path::Path;

use burn::module::Module as _;

use super::*;
use crate::checkpoint::{METADATA, save_network};
use crate::input::Input;
use crate::metrics::MetricTotals;
use crate::train::state::TrainState;
use quartet_agent::executor::Snapshot as _;

/// One training step, for states that are not the first.
fn stepped(task: &TrainTask) -> TrainState {
    let device = Device::flex();
    let input = Input::new(&task.dataset, task.run.image_size, &device);
    let images = task.dataset.split(Split::Train);
    let batch = input
        .training(
            images,
            &[0, 1, 2, 3],
            &task.experiment.augmentation,
            1,
            Epoch(1),
        )
        .unwrap();
    let (state, _) = prepare(task, &device).unwrap();
    state.step(batch, Epoch(1), 0).0
}

/// Written as the end of epoch 1.
fn written(state: &TrainState, folder: &Path, stem: &str) -> CheckpointFiles {
    let snapshot = state.snapshot(Position::end_of(Epoch(1)), None);
    Box::new(snapshot).write(folder, stem).unwrap()
}

#[test]
fn checkpoints_come_back_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = task(16, 0.05, 5);
    let files = written(&stepped(&task), folder.path(), "a");
    for file in [&files.weights, &files.training_state] {
        let bytes = fs::read(&file.path).unwrap();
        assert_eq!(file.blob.size, bytes.len() as u64);
        assert_eq!(file.blob.sha256, quartet_shared::blob::Checksum::of(&bytes));
    }
    let early_stopping = EarlyStopping::observe(None, Epoch(1), 0.5);
    let (weights, training_state) = (
        files.weights.path.clone(),
        files.training_state.path.clone(),
    );
    task.resume = Some(Resume {
        position: Position::end_of(Epoch(1)),
        early_stopping: Some(early_stopping),
        weights,
        training_state,
    });
    let (resumed, _) = prepare(&task, &Device::flex()).unwrap();
    assert_eq!(resumed.adam.updates(), 1);
    let again = written(&resumed, folder.path(), "b");
    assert_eq!(again.weights.blob, files.weights.blob);
    assert_eq!(again.training_state.blob, files.training_state.blob);

    let bytes = fs::read(&files.weights.path).unwrap();
    let names = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let names = names
        .names()
        .into_iter()
        .filter(|name| name.contains("running_mean"))
        .count();
    assert_eq!(names, 3, "the head's running statistics are weights too");
    let bytes = fs::read(&files.training_state.path).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let json = &metadata.metadata().as_ref().unwrap()[METADATA];
    assert!(
        json.contains("\"updates\":1") && json.contains("\"epoch\":1"),
        "{json}"
    );
}

#[test]
fn a_checkpoint_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = task(16, 0.05, 5);
    let files = written(&stepped(&task), folder.path(), "a");
    let good = Resume {
        position: Position::end_of(Epoch(1)),
        early_stopping: Some(EarlyStopping::observe(None, Epoch(1), 0.5)),
        weights: files.weights.path.clone(),
        training_state: files.training_state.path.clone(),
    };
    let refused = |task: &mut TrainTask, resume: Resume, part: &str| {
        task.resume = Some(resume);
        let error = format!(
            "{:#}",
            anyhow::Error::from(prepare(task, &Device::flex()).unwrap_err())
        );
        assert!(error.contains(part), "{error}");
    };
    refused(
        &mut task,
        Resume {
            position: Position::end_of(Epoch(2)),
            ..good.clone()
        },
        "epoch: Epoch(2)",
    );
    refused(
        &mut task,
        Resume {
            weights: files.training_state.path.clone(),
            ..good.clone()
        },
        "its metadata",
    );
    refused(
        &mut task,
        Resume {
            training_state: files.weights.path.clone(),
            ..good.clone()
        },
        "its metadata",
    );
    refused(
        &mut task,
        Resume {
            weights: folder.path().join("none"),
            ..good.clone()
        },
        "cannot read",
    );
    let cut = folder.path().join("cut");
    let bytes = fs::read(&files.weights.path).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    refused(
        &mut task,
        Resume {
            weights: cut,
            ..good.clone()
        },
        "not a safetensors file",
    );
    task.run.width = 0.1;
    refused(&mut task, good.clone(), "width: 0.05");
    task.run.width = 0.05;
    task.run.seed += 1;
    refused(&mut task, good, "seed");
}

#[test]
fn weights_can_be_written_from_a_network_that_trains() {
    let folder = tempfile::tempdir().unwrap();
    let state = stepped(&task(16, 0.05, 5));
    let a = save_network(&state.network, &folder.path().join("a")).unwrap();
    let b = save_network(&state.network.valid(), &folder.path().join("b")).unwrap();
    assert_eq!(
        a.blob, b.blob,
        "with the last update of the running statistics"
    );
}

/// A state after one of two steps of epoch 2, each of eight images, with totals of our own.
fn within(task: &TrainTask, totals: Option<MetricTotals>, folder: &Path) -> Resume {
    let position = Position::within(Epoch(2), 1);
    let snapshot = stepped(task).snapshot(position, totals);
    let files = Box::new(snapshot).write(folder, "within").unwrap();
    Resume {
        position,
        early_stopping: Some(EarlyStopping::observe(None, Epoch(1), 0.5)),
        weights: files.weights.path,
        training_state: files.training_state.path,
    }
}

#[test]
fn totals_come_back_bit_by_bit_and_times_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = task(12, 0.05, 2);
    let totals = MetricTotals {
        images: 8,
        loss: 0.1 + 0.2,
        correct: 5.0,
        seconds: 1000.0 / 3.0,
    };
    task.resume = Some(within(&task, Some(totals), folder.path()));
    assert_eq!(prepare(&task, &Device::flex()).unwrap().1, totals);

    let mut keep = Keep::new(folder.path());
    train(&task, &mut keep).unwrap();
    let metrics = keep.done[0].metrics;
    assert!((333.0..900.0).contains(&metrics.seconds), "{metrics:?}");
    let speed = 12.0 / metrics.images_per_second;
    assert!((333.0..metrics.seconds).contains(&speed), "{metrics:?}");
}

#[test]
fn a_state_of_another_place_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = task(12, 0.05, 5);
    let totals = MetricTotals {
        images: 8,
        ..MetricTotals::default()
    };
    let good = within(&task, Some(totals), folder.path());
    let refusal = |task: &TrainTask, position: Position| {
        let resume = Some(Resume {
            position,
            ..good.clone()
        });
        let task = TrainTask {
            resume,
            ..task.clone()
        };
        prepare(&task, &Device::flex())
            .map(|_| ())
            .map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    };
    let here = good.position;
    assert_eq!(refusal(&task, here), Ok(()));
    for position in [
        Position::end_of(Epoch(1)),
        Position::end_of(Epoch(2)),
        Position::within(Epoch(2), 2),
        Position::within(Epoch(1), 1),
        Position::within(Epoch(3), 1),
    ] {
        let error = refusal(&task, position).unwrap_err();
        assert!(error.contains("instead of Metadata"), "{error}");
    }
    let seed = task.run.seed;
    task.run.seed += 1;
    assert!(refusal(&task, here).unwrap_err().contains("seed"));
    task.run.seed = seed;
    // The same place in another plan.
    task.experiment.batch_size = 4;
    let error = refusal(&task, here).unwrap_err();
    assert!(error.contains("8 images at epoch 2, step 1"), "{error}");
    task.experiment.batch_size = 8;

    // MetricTotals that are missing, or that do not belong there.
    within(&task, None, folder.path());
    assert!(refusal(&task, here).unwrap_err().contains("sums"));
    let end = Position::end_of(Epoch(1));
    let snapshot = stepped(&task).snapshot(end, Some(totals));
    Box::new(snapshot).write(folder.path(), "within").unwrap();
    assert!(refusal(&task, end).unwrap_err().contains("sums"));
}

#[test]
fn impossible_counts_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = task(12, 0.05, 5);
    let good = MetricTotals {
        images: 8,
        loss: 9.0,
        correct: 5.0,
        seconds: 1.0,
    };
    let mut refusal = |totals, updates: u64| {
        let position = Position::within(Epoch(2), 1);
        task.resume = None;
        let mut state = stepped(&task);
        state.adam.updates = updates;
        let files = Box::new(state.snapshot(position, Some(totals))).write(folder.path(), "x");
        let files = files.unwrap();
        task.resume = Some(Resume {
            position,
            early_stopping: Some(EarlyStopping::observe(None, Epoch(1), 0.5)),
            weights: files.weights.path,
            training_state: files.training_state.path,
        });
        let refused = prepare(&task, &Device::flex()).map(drop);
        refused.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    };
    assert_eq!(refusal(good, 3), Ok(()));
    let error = refusal(good, u64::MAX).unwrap_err();
    assert!(error.contains("18446744073709551615 updates"), "{error}");
    for (correct, seconds) in [(8.5, 1.0), (-1.0, 1.0), (5.0, -1.0), (5.0, 1e300)] {
        let totals = MetricTotals {
            correct,
            seconds,
            ..good
        };
        assert!(refusal(totals, 3).unwrap_err().contains("its sums are"));
    }
}

#[test]
fn a_training_state_of_the_first_format_is_the_end_of_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = task(16, 0.05, 5);
    let files = written(&stepped(&task), folder.path(), "a");
    let bytes = fs::read(&files.training_state.path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    let rewritten = |format: u32, metadata: &mut std::collections::HashMap<String, String>| {
        let json = format!(
            r#"{{"format":{format},"seed":{},"epoch":1,"updates":1}}"#,
            task.run.seed
        );
        metadata.insert(METADATA.to_owned(), json);
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let path = folder.path().join(format!("format-{format}"));
        safetensors::serialize_to_file(tensors.tensors(), Some(metadata.clone()), &path).unwrap();
        Resume {
            position: Position::end_of(Epoch(1)),
            early_stopping: Some(EarlyStopping::observe(None, Epoch(1), 0.5)),
            weights: files.weights.path.clone(),
            training_state: path,
        }
    };
    let (first, unknown) = (rewritten(1, &mut metadata), rewritten(3, &mut metadata));
    task.resume = Some(first);
    let (state, _) = prepare(&task, &Device::flex()).unwrap();
    assert_eq!(state.adam.updates(), 1);
    let again = written(&state, folder.path(), "b");
    assert_eq!(again.training_state.blob, files.training_state.blob);
    task.resume = Some(unknown);
    let error = prepare(&task, &Device::flex()).unwrap_err();
    let error = format!("{:#}", anyhow::Error::from(error));
    assert!(error.contains("format: 3"), "{error}");
}
