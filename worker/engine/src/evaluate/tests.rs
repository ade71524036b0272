use std::fs;
use std::path::Path;
use std::sync::Arc;

use quartet_agent::executor::Checkpoint;
#[cfg(feature = "tch")]
use quartet_kernels::MemoryFormat;
use quartet_shared::dataset::{Channels, Dataset, ImageShape};
use quartet_shared::ids::{Epoch, RunName};
use quartet_shared::predictions::{Predictions, Shape};
use quartet_shared::progress::{Phase, Progress};
#[cfg(feature = "tch")]
use quartet_shared::spec::Precision;
use quartet_shared::spec::{Preset, RunSpec};

use super::*;
use crate::checkpoint::save_network;
use crate::models::NetworkConfig;

#[derive(Default)]
struct Watch {
    last: Option<Progress>,
    stop: Option<Stop>,
    predicted: Vec<(RunName, Predictions)>,
    /// There is memory for a batch if all that are to be computed are so many.
    fits_from: u32,
    /// Members that are computed before there is none.
    after: usize,
    /// How often there is none in any case.
    failures: u32,
    /// How often a phase was begun.
    begun: u32,
}

impl Callbacks for Watch {
    fn on_progress(&mut self, progress: Progress) {
        self.begun += u32::from(progress.step == 0);
        self.last = Some(progress);
    }

    fn stop(&self) -> Option<Stop> {
        let steps = self.last.map_or(0, |progress| progress.steps);
        let fits = steps >= self.fits_from || self.predicted.len() < self.after;
        assert!(
            fits && self.begun > self.failures,
            "LibTorch: convolution: CUDA out of memory. GPU 0 has a total capacity of 2 GiB of which 1 MiB \
             is free."
        );
        self.stop
    }

    fn wants_mid_epoch_checkpoint(&self) -> bool {
        unreachable!("nothing is trained")
    }

    fn on_checkpoint(&mut self, _: Checkpoint) -> Option<Stop> {
        unreachable!("nothing is trained")
    }

    fn on_predictions(&mut self, run: &RunName, predictions: &Predictions) {
        self.predicted.push((run.clone(), predictions.clone()));
    }
}

fn dataset() -> Dataset {
    let images = |n: usize| Images {
        labels: (0..n).map(|i| (i % 3) as u8).collect(),
        pixels: (0..n * 64).map(|i| (i * 37 % 251) as u8).collect(),
        ..Images::default()
    };
    let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
    Dataset {
        width: 8,
        height: 8,
        channels: Channels::Gray,
        classes,
        splits: [images(0), images(5), images(7)],
    }
}

/// Members of several seeds, weights in the ensemble and sizes of images, whose files are in `folder`.
fn task(folder: &Path, names: &[&str], device: &Device) -> EvaluateTask {
    let mut experiment = Preset::Demo.spec();
    experiment.batch_size = 2;
    let vgg = experiment
        .runs
        .iter()
        .find(|run| run.name.as_str() == "vgg16")
        .unwrap()
        .clone();
    let dataset = dataset();
    let member = |(i, name): (usize, &&str)| {
        let run = RunSpec {
            name: name.parse().unwrap(),
            width: 0.03,
            image_size: if i == 2 { 48 } else { 32 },
            seed: i as u64,
            ensemble_weight: 1.0 + 2.0 * i as f64,
            ..vgg.clone()
        };
        let weights = folder.join(name);
        let config = NetworkConfig::of_run(&experiment, &run, &dataset.classes);
        save_network(&config.init(device, run.seed), &weights).unwrap();
        Member {
            run,
            best_epoch: Epoch(4),
            source: MemberSource::Weights(weights),
        }
    };
    let members = names.iter().enumerate().map(member).collect();
    EvaluateTask {
        experiment,
        members,
        dataset: Arc::new(dataset),
    }
}

fn finished(task: &EvaluateTask, compute: Compute, watch: &mut Watch) -> EvaluationReport {
    match evaluate(task, compute, watch).unwrap() {
        Evaluated::Finished(report) => *report,
        Evaluated::Stopped => panic!("stopped"),
    }
}

#[track_caller]
fn assert_same_predictions(found: &Watch, expected: &Watch) {
    assert_eq!(found.predicted.len(), expected.predicted.len());
    for ((run, found), (name, expected)) in found.predicted.iter().zip(&expected.predicted) {
        assert_eq!(run, name);
        let (found, expected) = (found.splits.concat(), expected.splits.concat());
        assert_eq!(found.len(), expected.len());
        let differs = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-5;
        assert!(!found.iter().zip(&expected).any(differs), "{run}");
    }
}

/// As the callbacks are asked after each batch, they play the device.
#[test]
fn batches_that_do_not_fit_are_halved() {
    let folder = tempfile::tempdir().unwrap();
    for device in crate::devices::cpus() {
        let task = task(folder.path(), &["one", "two"], &device);
        let mut plain = Watch::default();
        finished(&task, (&device).into(), &mut plain);
        let watch = |fits_from, after| Watch {
            fits_from,
            after,
            ..Watch::default()
        };
        // Batches of 4, 2 and 1 are 4, 7 and 12 of a member; the last cases are of the second one.
        let cases = [
            (8, 0, 8),
            (9, 0, 14),
            (14, 0, 14),
            (15, 0, 24),
            (9, 1, 12),
            (7, 1, 8),
        ];
        for (fits_from, after, steps) in cases {
            let mut watch = watch(fits_from, after);
            finished(&task, (&device).into(), &mut watch);
            let last = watch.last.unwrap();
            assert_eq!((last.step, last.steps), (steps, steps), "{fits_from}");
            assert_same_predictions(&watch, &plain);
        }
        for after in [0, 1] {
            let error = evaluate(&task, &device, &mut watch(25, after)).unwrap_err();
            let run = ["one", "two"][after];
            assert_eq!(
                error.to_string(),
                format!(
                    "out of memory on the GPU, of which 1 MiB was free: {run} with one image of 32x32"
                )
            );
        }
    }
}

/// A GPU that has no room for a batch beside them gives up its images before the batch is halved.
#[cfg(feature = "tch")]
#[test]
fn kept_images_make_room_first() {
    let folder = tempfile::tempdir().unwrap();
    let device = crate::devices::cpus().pop().unwrap();
    let task = task(folder.path(), &["one", "two"], &device);
    let mut plain = Watch::default();
    finished(&task, (&device).into(), &mut plain);
    for (failures, steps) in [(1, 8), (2, 14), (3, 24)] {
        let mut watch = Watch {
            failures,
            ..Watch::default()
        };
        finished(&task, Compute::rehearsed(&device), &mut watch);
        let last = watch.last.unwrap();
        assert_eq!((last.step, last.steps), (steps, steps));
        assert_same_predictions(&watch, &plain);
    }
    // Batches that a thread of their own makes.
    let mut watch = Watch {
        failures: 1,
        ..Watch::default()
    };
    let sent = Compute::rehearsed(&device).with_device_data_limit(0);
    finished(&task, sent, &mut watch);
    assert_eq!(watch.last.unwrap().steps, 14);
    assert_same_predictions(&watch, &plain);
}

#[test]
fn evaluates_members_alone_and_together() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let task = task(folder.path(), &["one", "two"], &device);
    let mut watch = Watch::default();
    let Evaluated::Finished(report) = evaluate(&task, &device, &mut watch).unwrap() else {
        panic!("stopped")
    };
    let last = watch.last.unwrap();
    assert_eq!(
        (last.phase, last.step, last.steps),
        (Phase::Evaluating, 8, 8)
    );
    assert_eq!(
        report
            .splits
            .iter()
            .map(|s| (s.split, s.images))
            .collect::<Vec<_>>(),
        [(Split::Valid, 5), (Split::Test, 7)]
    );
    assert_eq!(
        report.members.iter().map(|m| m.weight).collect::<Vec<_>>(),
        [0.25, 0.75]
    );

    let EvaluateTask {
        experiment,
        members,
        dataset,
    } = &task;
    // The report's ensemble is the weighted mean of what the members predict, in batches of any size.
    let split = dataset.split(Split::Test);
    let outputs: Vec<Vec<f32>> = members
        .iter()
        .map(|member| {
            let network = NetworkConfig::of_run(experiment, &member.run, &dataset.classes)
                .init(&device, member.run.seed);
            let mut step = |_| None;
            predict(
                &network,
                split,
                ImageShape::gray([8, 8]),
                7,
                &device,
                &mut step,
            )
            .unwrap()
            .unwrap()
        })
        .collect();
    assert!(
        outputs[0]
            .chunks(3)
            .all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5)
    );
    let correct = (0..7).filter(|&i| {
        let mean = |class: usize| {
            0.25 * f64::from(outputs[0][i * 3 + class])
                + 0.75 * f64::from(outputs[1][i * 3 + class])
        };
        (0..3).all(|class| mean(class) <= mean(usize::from(split.labels[i])))
    });
    assert_eq!(
        report.splits[1].ensemble.accuracy,
        correct.count() as f64 / 7.0
    );

    for stop in [Stop::Drop, Stop::Drain] {
        let stop = Some(stop);
        let mut callbacks = Watch {
            stop,
            ..Watch::default()
        };
        let evaluated = evaluate(&task, &device, &mut callbacks).unwrap();
        assert_eq!(evaluated, Evaluated::Stopped);
    }
}

#[test]
fn a_member_is_loaded_when_the_member_before_it_is_done() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let task = task(folder.path(), &["one", "two"], &device);
    // The first member's four steps are done when the other's weights are to be read.
    fs::remove_file(folder.path().join("two")).unwrap();
    let mut watch = Watch::default();
    let evaluated = evaluate(&task, &device, &mut watch);
    assert!(
        matches!(
            evaluated,
            Err(EvaluateError::Weights(CheckpointError::Read { .. }))
        ),
        "{evaluated:?}"
    );
    let names: Vec<_> = watch
        .predicted
        .iter()
        .map(|(run, _)| run.as_str())
        .collect();
    assert_eq!(names, ["one"]);
}

#[test]
fn what_is_predicted_is_not_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let mut task = task(folder.path(), &["one", "two", "three"], &device);
    let mut watch = Watch::default();
    let whole = evaluate(&task, &device, &mut watch).unwrap();
    let shape = Shape::of(&task.dataset);
    for predicted in [&[1][..], &[0, 2], &[0, 1, 2]] {
        for &member in predicted {
            let (run, predictions) = &watch.predicted[member];
            assert_eq!(*run, task.members[member].run.name);
            // As it comes back from a file.
            let file = predictions.encode(&shape);
            let predictions = Predictions::decode(&file, &shape).unwrap();
            task.members[member].source = MemberSource::Predictions(predictions);
        }
        let left = task
            .members
            .iter()
            .filter(|m| m.weights().is_some())
            .count();
        let mut again = Watch::default();
        assert_eq!(evaluate(&task, &device, &mut again).unwrap(), whole);
        let last = again.last.unwrap();
        // Two batches of each split, for each member that is left.
        assert_eq!((last.step, last.steps), (4 * left as u32, 4 * left as u32));
        assert_eq!(again.predicted.len(), left);
    }
}

#[cfg(feature = "tch")]
#[test]
fn what_a_gpu_does_otherwise_changes_no_prediction() {
    for device in crate::devices::cpus() {
        if !quartet_kernels::is_native(&device) {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        // The third takes images of another size.
        let mut task = task(folder.path(), &["one", "two", "three"], &device);
        for precision in [Precision::Tf32, Precision::Bf16] {
            task.experiment.precision = precision;
            let fixed = Compute::rehearsed(&device).with_weights(MemoryFormat::ChannelsLast);
            let sent = fixed.clone().with_device_data_limit(0);
            let [expected, found, sent] = [Compute::from(&device), fixed, sent].map(|compute| {
                let mut watch = Watch::default();
                let evaluated = evaluate(&task, compute, &mut watch).unwrap();
                assert!(matches!(evaluated, Evaluated::Finished(_)));
                watch.predicted
            });
            assert!(expected.len() == 3 && found == expected && sent == expected);
        }
    }
}
