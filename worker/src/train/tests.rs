use std::fs;
use std::path::Path;
use std::sync::Mutex;

use quartet_shared::spec::{Augmentation, Backbone, Preset};

use super::*;
use crate::checkpoint::{CheckpointFiles, METADATA, save_network};

const SIDE: usize = 12;

/// Three classes of bars: across, upright, and a dot, each somewhere, on a noisy ground.
fn bars(train: usize, valid: usize) -> Arc<Dataset> {
    let images = |n: usize, seed: u64| {
        let mut rng =
            crate::input::random::stream(crate::input::random::Purpose::Order, seed, Epoch(0), 0);
        let mut images = Images::default();
        for i in 0..n {
            let at = crate::input::random::below(&mut rng, SIDE - 4) + 2;
            let class = i % 3;
            for y in 0..SIDE {
                for x in 0..SIDE {
                    let (near_x, near_y) = (x.abs_diff(at) < 2, y.abs_diff(at) < 2);
                    let lit = [near_y, near_x, near_x && near_y][class];
                    let noise = crate::input::random::below(&mut rng, 40) as u8;
                    images.pixels.push(if lit { 200 + noise } else { noise });
                }
            }
            images.labels.push(class as u8);
        }
        images
    };
    let splits = [images(train, 1), images(valid, 2), images(valid, 3)];
    let side = SIDE as u16;
    let classes = ["across", "upright", "dot"].map(str::to_owned).to_vec();
    Arc::new(Dataset {
        width: side,
        height: side,
        classes,
        splits,
    })
}

fn task(train: usize, width: f64, epochs: u32) -> TrainTask {
    let mut experiment = Preset::Demo.spec();
    experiment.epochs = epochs;
    experiment.batch_size = 8;
    experiment.patience = 50;
    experiment.batch_norm_momentum = 0.9;
    experiment.augmentation = Augmentation {
        height_shift: 0.1,
        width_shift: 0.1,
        zoom: 0.1,
        horizontal_flip: true,
    };
    let mut run = experiment
        .runs
        .iter()
        .find(|run| run.backbone == Backbone::Vgg16)
        .unwrap()
        .clone();
    (run.width, run.image_size, run.dropout, run.learning_rate) = (width, 32, 0.2, 2e-3);
    TrainTask {
        experiment,
        run,
        dataset: bars(train, 12),
        device: Device::flex(),
        weights: None,
        resume: None,
    }
}

/// Writes every checkpoint and stops when it is told to.
struct Keep<'a> {
    folder: &'a Path,
    stop_after_steps: Option<u32>,
    steps: Mutex<u32>,
    stop_after_epoch: Option<u32>,
    phases: Vec<Phase>,
    done: Vec<(Epoch, EpochMetrics, EarlyStopping, CheckpointFiles)>,
}

impl<'a> Keep<'a> {
    fn new(folder: &'a Path) -> Self {
        let steps = Mutex::new(0);
        Self {
            folder,
            stop_after_steps: None,
            steps,
            stop_after_epoch: None,
            phases: Vec::new(),
            done: Vec::new(),
        }
    }
}

impl Observer for Keep<'_> {
    fn progress(&mut self, progress: quartet_shared::progress::Progress) {
        assert!(progress.step <= progress.steps);
        if self.phases.last() != Some(&progress.phase) {
            self.phases.push(progress.phase);
        }
    }

    fn control(&self) -> Control {
        let mut steps = self.steps.lock().unwrap();
        *steps += 1;
        if self.stop_after_steps == Some(*steps) {
            Control::Stop
        } else {
            Control::Continue
        }
    }

    fn epoch_done(&mut self, checkpoint: EpochCheckpoint) -> Control {
        let EpochCheckpoint {
            epoch,
            metrics,
            early_stopping,
            snapshot,
        } = checkpoint;
        // Written on another thread, as the worker does it.
        let (folder, stem) = (self.folder.to_owned(), format!("{epoch}"));
        let writer = std::thread::spawn(move || snapshot.write(&folder, &stem).unwrap());
        self.done
            .push((epoch, metrics, early_stopping, writer.join().unwrap()));
        if self.stop_after_epoch == Some(epoch.0) {
            Control::Stop
        } else {
            Control::Continue
        }
    }
}

fn resume(keep: &Keep<'_>) -> Option<Resume> {
    let (epoch, _, early_stopping, files) = keep.done.last().unwrap();
    let (weights, training_state) = (
        files.weights.path.clone(),
        files.training_state.path.clone(),
    );
    Some(Resume {
        epoch: *epoch,
        early_stopping: *early_stopping,
        weights,
        training_state,
    })
}

fn bits(metrics: &EpochMetrics) -> [u64; 4] {
    [
        metrics.train_loss,
        metrics.train_accuracy,
        metrics.valid_loss,
        metrics.valid_accuracy,
    ]
    .map(f64::to_bits)
}

#[test]
fn a_resumed_run_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let sub = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    // 8 divides 24: four steps, the last of them wrapped.
    let mut task = task(24, 0.05, 3);
    let straight_folder = sub("straight");
    let mut straight = Keep::new(&straight_folder);
    let finished = train(&task, &mut straight).unwrap();
    assert!(matches!(
        finished,
        Trained::Finished(Outcome {
            epochs: 3,
            stop_reason: StopReason::Epochs,
            ..
        })
    ));
    assert_eq!(straight.done.len(), 3);

    let first_folder = sub("first");
    let mut first = Keep::new(&first_folder);
    first.stop_after_epoch = Some(1);
    assert_eq!(train(&task, &mut first).unwrap(), Trained::Stopped);
    assert_eq!(bits(&first.done[0].1), bits(&straight.done[0].1));

    // Stopped in the middle of epoch 2, whose steps are lost.
    task.resume = resume(&first);
    let second_folder = sub("second");
    let mut second = Keep::new(&second_folder);
    second.stop_after_steps = Some(2);
    assert_eq!(train(&task, &mut second).unwrap(), Trained::Stopped);
    assert!(second.done.is_empty());

    let third_folder = sub("third");
    let mut third = Keep::new(&third_folder);
    assert_eq!(train(&task, &mut third).unwrap(), finished);
    for (a, b) in straight.done[1..].iter().zip(&third.done) {
        assert_eq!((a.0, bits(&a.1), a.2), (b.0, bits(&b.1), b.2));
        assert_eq!(a.3.weights.blob, b.3.weights.blob);
        assert_eq!(a.3.training_state.blob, b.3.training_state.blob);
    }
    assert_eq!(
        straight.phases,
        [
            &[Phase::Preparing][..],
            &[Phase::Training, Phase::Validating].repeat(3)
        ]
        .concat()
    );

    // A run that is complete trains no more.
    task.resume = resume(&third);
    let mut nothing = Keep::new(&third_folder);
    assert_eq!(train(&task, &mut nothing).unwrap(), finished);
    assert!(nothing.phases.is_empty());
}

#[test]
fn learns_to_tell_bars_apart() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = task(240, 0.05, 8);
    task.run.dropout = 0.0;
    task.experiment.batch_size = 16;
    task.experiment.augmentation = Augmentation {
        height_shift: 0.05,
        width_shift: 0.05,
        zoom: 0.05,
        horizontal_flip: true,
    };
    let mut keep = Keep::new(folder.path());
    train(&task, &mut keep).unwrap();
    let accuracies: Vec<f64> = keep
        .done
        .iter()
        .map(|epoch| epoch.1.train_accuracy)
        .collect();
    assert!(accuracies.last().unwrap() > &0.9, "{accuracies:?}");
    let losses: Vec<f64> = keep.done.iter().map(|epoch| epoch.1.train_loss).collect();
    assert!(losses.last().unwrap() < &losses[0], "{losses:?}");
}

#[test]
fn early_stopping_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = task(9, 0.05, 50);
    // Nothing is learned, so no epoch is better than the first. One of two batches has one image.
    task.run.learning_rate = 1e-30;
    task.experiment.batch_norm_momentum = 1.0;
    task.experiment.patience = 2;
    let mut keep = Keep::new(folder.path());
    let Trained::Finished(outcome) = train(&task, &mut keep).unwrap() else {
        panic!("stopped")
    };
    assert_eq!(
        (outcome.epochs, outcome.best_epoch, outcome.stop_reason),
        (3, Epoch(1), StopReason::EarlyStopping)
    );
    assert!(keep.done.iter().all(|epoch| epoch.1.train_loss.is_finite()));
}

#[test]
fn a_loss_that_is_not_finite_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = task(16, 0.05, 5);
    task.run.learning_rate = f64::INFINITY;
    let error = train(&task, &mut Keep::new(folder.path())).unwrap_err();
    assert!(
        matches!(
            error,
            TrainError::Diverged {
                epoch: Epoch(1),
                step: 2
            }
        ),
        "{error}"
    );
}

/// One training step, for states that are not the first.
fn stepped(task: &TrainTask) -> Learner {
    let input = Input::new(&task.dataset, task.run.image_size, &task.device);
    let images = task.dataset.split(Split::Train);
    let batch = input.training(
        images,
        &[0, 1, 2, 3],
        &task.experiment.augmentation,
        1,
        Epoch(1),
    );
    prepare(task).unwrap().step(batch, Epoch(1), 0).0
}

#[test]
fn checkpoints_come_back_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = task(16, 0.05, 5);
    let files = stepped(&task)
        .snapshot(Epoch(1))
        .write(folder.path(), "a")
        .unwrap();
    for file in [&files.weights, &files.training_state] {
        let bytes = fs::read(&file.path).unwrap();
        assert_eq!(file.blob.size, bytes.len() as u64);
        assert_eq!(
            file.blob.sha256,
            quartet_shared::checkpoint::Checksum::of(&bytes)
        );
    }
    let early_stopping = EarlyStopping::observe(None, Epoch(1), 0.5);
    let (weights, training_state) = (
        files.weights.path.clone(),
        files.training_state.path.clone(),
    );
    task.resume = Some(Resume {
        epoch: Epoch(1),
        early_stopping,
        weights,
        training_state,
    });
    let resumed = prepare(&task).unwrap();
    assert_eq!(resumed.adam.updates(), 1);
    let again = resumed
        .snapshot(Epoch(1))
        .write(folder.path(), "b")
        .unwrap();
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
    let files = stepped(&task)
        .snapshot(Epoch(1))
        .write(folder.path(), "a")
        .unwrap();
    let good = Resume {
        epoch: Epoch(1),
        early_stopping: EarlyStopping::observe(None, Epoch(1), 0.5),
        weights: files.weights.path.clone(),
        training_state: files.training_state.path.clone(),
    };
    let refused = |task: &mut TrainTask, resume: Resume, part: &str| {
        task.resume = Some(resume);
        let error = format!("{:#}", anyhow::Error::from(prepare(task).unwrap_err()));
        assert!(error.contains(part), "{error}");
    };
    refused(
        &mut task,
        Resume {
            epoch: Epoch(2),
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
    let learner = stepped(&task(16, 0.05, 5));
    let a = save_network(&learner.network, &folder.path().join("a")).unwrap();
    let b = save_network(&learner.network.valid(), &folder.path().join("b")).unwrap();
    assert_eq!(
        a.blob, b.blob,
        "with the last update of the running statistics"
    );
}
