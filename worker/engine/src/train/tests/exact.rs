//! A run that is stopped and resumed does what the undisturbed one does, to the last bit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use quartet_shared::spec::Precision;
use serde_json::Value;

use super::*;
use crate::checkpoint::METADATA;

/// Training images with which 8 divides the number, so that the last of four steps goes on into another pass,
/// and with which it does not: the last of three steps is short.
const SIZES: [usize; 2] = [24, 20];

const EPOCHS: u32 = 2;

/// What is trained on how many images, on which device.
fn subjects() -> Vec<(usize, Device, TrainTask)> {
    let on = |device: Device| SIZES.map(|size| (size, device.clone(), task(size, 0.05, EPOCHS)));
    cpus().into_iter().flat_map(on).collect()
}

/// All of a residual network's operations on LibTorch, where they are its own, in both precisions.
fn residual_subjects() -> Vec<(usize, Device, TrainTask)> {
    let mut subjects = Vec::new();
    for device in cpus() {
        for precision in [Precision::F32, Precision::Bf16] {
            if quartet_kernels::is_native(&device) {
                let mut task = task(SIZES[1], 0.05, EPOCHS);
                task.run.backbone = Backbone::Resnet50;
                task.experiment.precision = precision;
                subjects.push((SIZES[1], device.clone(), task));
            }
        }
    }
    subjects
}

/// A network of which some layers are frozen, with batch normalisation among both.
fn frozen_subjects() -> Vec<(usize, Device, TrainTask)> {
    let on = |device: Device| {
        let mut task = task(SIZES[1], 0.05, EPOCHS);
        task.run.backbone = Backbone::Resnet50;
        task.run.freeze = "conv4_block2".parse().unwrap();
        (SIZES[1], device, task)
    };
    cpus().into_iter().map(on).collect()
}

/// A folder with subfolders for runs.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn sub(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }
}

/// What an undisturbed run with a state after every step leaves behind.
struct Undisturbed {
    finished: Trained,
    done: Vec<Done>,
    states: BTreeMap<Position, CheckpointFiles>,
    /// How often it asked whether to go on.
    questions: u32,
}

fn undisturbed(device: &Device, task: &TrainTask, folder: &Path) -> Undisturbed {
    let task = TrainTask {
        checkpoint_interval: Some(Duration::ZERO),
        ..task.clone()
    };
    let mut keep = Keep::new(folder);
    let finished = train_on(device, &task, &mut keep).unwrap();
    assert!(matches!(
        finished,
        Trained::Finished(Outcome {
            epochs: EPOCHS,
            stop_reason: StopReason::Epochs,
            ..
        })
    ));
    assert_eq!(keep.done.len(), EPOCHS as usize);
    Undisturbed {
        finished,
        questions: keep.asked.into_inner(),
        done: keep.done,
        states: keep.states.into_iter().collect(),
    }
}

/// The metadata of a training state without the time that it took, and its tensors.
fn training_state(files: &CheckpointFiles) -> (Value, BTreeMap<String, Vec<u8>>) {
    let bytes = std::fs::read(&files.training_state.path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let json = &header.metadata().as_ref().unwrap()[METADATA];
    let mut metadata: Value = serde_json::from_str(json).unwrap();
    let sums = metadata["sums"].as_object_mut().unwrap();
    assert!(sums.remove("seconds").unwrap().as_f64().unwrap() > 0.0);
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.tensors().into_iter();
    let tensors = tensors.map(|(name, tensor)| (name, tensor.data().to_vec()));
    (metadata, tensors.collect())
}

impl Undisturbed {
    /// Whether the other run has come through the same states within epochs.
    fn assert_same_states(&self, states: &[(Position, CheckpointFiles)]) {
        for (position, files) in states {
            let ours = &self.states[position];
            assert_eq!(files.weights.blob, ours.weights.blob, "{position}");
            assert!(training_state(files) == training_state(ours), "{position}");
        }
    }
}

#[test]
fn states_within_an_epoch_change_nothing() {
    for (size, device, task) in subjects() {
        let folder = Folder::new();
        let with = undisturbed(&device, &task, &folder.sub("with"));
        let steps = size as u32 / 8 + 1;
        let expected: Vec<Position> = (1..=EPOCHS)
            .flat_map(|epoch| (1..=steps).map(move |step| Position::within(Epoch(epoch), step)))
            .collect();
        assert!(with.states.keys().eq(&expected));

        let without = folder.sub("without");
        let mut keep = Keep::new(&without);
        assert_eq!(train_on(&device, &task, &mut keep).unwrap(), with.finished);
        assert!(keep.states.is_empty());
        assert_same_epochs(&keep.done, &with.done);
        let phases = [Phase::Training, Phase::Validating].repeat(EPOCHS as usize);
        assert_eq!(keep.phases, [&[Phase::Preparing][..], &phases].concat());

        // A run that is complete trains no more.
        let resume = keep.resume(None);
        let complete = TrainTask { resume, ..task };
        let mut nothing = Keep::new(&without);
        assert_eq!(
            train_on(&device, &complete, &mut nothing).unwrap(),
            with.finished
        );
        assert!(nothing.phases.is_empty());
    }
}

#[test]
fn a_run_drained_at_any_point_ends_with_the_same_bytes() {
    for (size, device, task) in subjects() {
        let folder = Folder::new();
        let straight = undisturbed(&device, &task, &folder.sub("straight"));
        // After every training step and every batch of the validation: 24 images are two batches.
        let steps = size as u32 / 8 + 1;
        assert_eq!(straight.questions, EPOCHS * (steps + 2));
        for question in 1..=straight.questions {
            let first_folder = folder.sub(&format!("first-{question}"));
            let mut first = Keep::answering(&first_folder, question, Stop::Drain);
            assert_eq!(
                train_on(&device, &task, &mut first).unwrap(),
                Trained::Stopped
            );
            let (epoch, asked) = (
                (question - 1) / (steps + 2),
                (question - 1) % (steps + 2) + 1,
            );
            let position = Position::within(Epoch(epoch + 1), asked.min(steps));
            assert_eq!(first.states.len(), 1);
            assert_eq!(first.states[0].0, position);

            let rest_folder = folder.sub(&format!("rest-{question}"));
            let mut rest = Keep::new(&rest_folder);
            let resume = first.resume(None);
            assert_eq!(resume.as_ref().unwrap().position, position);
            let resumed = TrainTask {
                resume,
                checkpoint_interval: Some(Duration::ZERO),
                ..task.clone()
            };
            assert_eq!(
                train_on(&device, &resumed, &mut rest).unwrap(),
                straight.finished
            );
            let done = [first.done, rest.done].concat();
            assert_same_epochs(&done, &straight.done);
            let states = [first.states, rest.states].concat();
            straight.assert_same_states(&states);
            assert!(
                straight
                    .states
                    .keys()
                    .skip_while(|p| **p < position)
                    .eq(states.iter().map(|s| &s.0))
            );
        }
    }
}

#[test]
fn a_run_drained_after_every_single_step_ends_with_the_same_bytes() {
    let all = [subjects(), residual_subjects(), frozen_subjects()].concat();
    for (size, device, mut task) in all {
        let folder = Folder::new();
        let straight = undisturbed(&device, &task, &folder.sub("straight"));
        let (mut done, mut states, mut legs) = (Vec::new(), Vec::new(), 0);
        // The question at which the next leg drains. A leg that drains in the validation that it begins with
        // has done nothing that could be kept; the next one gets beyond it.
        let mut question = 1;
        let finished = loop {
            let leg_folder = folder.sub(&format!("leg-{legs}"));
            let mut leg = Keep::answering(&leg_folder, question, Stop::Drain);
            let trained = train_on(&device, &task, &mut leg).unwrap();
            legs += 1;
            let nothing = leg.states.is_empty() && leg.done.is_empty();
            question = if nothing { 3 } else { 1 };
            task.resume = leg.resume(task.resume.as_ref());
            done.append(&mut leg.done);
            states.append(&mut leg.states);
            if trained != Trained::Stopped {
                break trained;
            }
        };
        assert_eq!(finished, straight.finished);
        assert_same_epochs(&done, &straight.done);
        straight.assert_same_states(&states);
        assert!(straight.states.keys().eq(states.iter().map(|s| &s.0)));
        // One leg a step, one that drains in each validation, and the one that ends the run.
        assert_eq!(legs, EPOCHS * (size as u32 / 8 + 1 + 1) + 1);
    }
}

#[test]
fn what_was_not_handed_over_is_done_again() {
    let folder = Folder::new();
    let device = Device::flex();
    let mut task = task(24, 0.05, EPOCHS);
    let straight = undisturbed(&device, &task, &folder.sub("straight"));

    // Stopped after an epoch, and in the middle of the next, whose steps are lost: nobody wanted its states.
    let first_folder = folder.sub("first");
    let mut first = Keep::new(&first_folder);
    first.stop_after_epoch = Some(1);
    assert_eq!(
        train_on(&device, &task, &mut first).unwrap(),
        Trained::Stopped
    );
    assert_same_epochs(&first.done, &straight.done[..1]);
    task.resume = first.resume(None);
    task.checkpoint_interval = Some(Duration::ZERO);
    let second_folder = folder.sub("second");
    let mut second = Keep::answering(&second_folder, 2, Stop::Drop);
    second.wants_states = false;
    assert_eq!(
        train_on(&device, &task, &mut second).unwrap(),
        Trained::Stopped
    );
    assert!(second.done.is_empty() && second.states.is_empty());

    // A state is due only when the interval has passed.
    task.checkpoint_interval = Some(Duration::from_secs(3600));
    let third_folder = folder.sub("third");
    let mut third = Keep::new(&third_folder);
    assert_eq!(
        train_on(&device, &task, &mut third).unwrap(),
        straight.finished
    );
    assert_same_epochs(&third.done, &straight.done[1..]);
    assert!(third.states.is_empty());
}
