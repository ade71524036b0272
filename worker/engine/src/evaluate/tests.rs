use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quartet_agent::executor::Checkpoint;
use quartet_shared::dataset::Dataset;
use quartet_shared::progress::Progress;
use quartet_shared::spec::{Preset, RunSpec};

use super::*;
use crate::checkpoint::save_network;

struct Watch {
    last: Option<Progress>,
    stop: Option<Stop>,
}

impl Callbacks for Watch {
    fn on_progress(&mut self, progress: Progress) {
        self.last = Some(progress);
    }

    fn stop(&self) -> Option<Stop> {
        self.stop
    }

    fn wants_mid_epoch_checkpoint(&self) -> bool {
        unreachable!("nothing is trained")
    }

    fn on_checkpoint(&mut self, _: Checkpoint) -> Option<Stop> {
        unreachable!("nothing is trained")
    }
}

fn dataset() -> Dataset {
    let images = |n: usize| Images {
        labels: (0..n).map(|i| (i % 3) as u8).collect(),
        pixels: (0..n * 64).map(|i| (i * 37 % 251) as u8).collect(),
    };
    let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
    Dataset {
        width: 8,
        height: 8,
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
            weights,
        }
    };
    let members = names.iter().enumerate().map(member).collect();
    EvaluateTask {
        experiment,
        members,
        dataset: Arc::new(dataset),
    }
}

#[test]
fn evaluates_members_alone_and_together() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let task = task(folder.path(), &["one", "two"], &device);
    let mut watch = Watch {
        last: None,
        stop: None,
    };
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
            let outputs = predict(&[&network], split, [8, 8], 7, &device, &mut step);
            outputs.unwrap().remove(0)
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
        let mut callbacks = Watch { last: None, stop };
        let evaluated = evaluate(&task, &device, &mut callbacks).unwrap();
        assert_eq!(evaluated, Evaluated::Stopped);
    }
}

/// Removes a file after the first step, and counts the steps.
struct Removing {
    file: PathBuf,
    steps: Cell<u32>,
}

impl Callbacks for Removing {
    fn on_progress(&mut self, _: Progress) {}

    fn stop(&self) -> Option<Stop> {
        if self.steps.get() == 0 {
            fs::remove_file(&self.file).unwrap();
        }
        self.steps.set(self.steps.get() + 1);
        None
    }

    fn wants_mid_epoch_checkpoint(&self) -> bool {
        unreachable!("nothing is trained")
    }

    fn on_checkpoint(&mut self, _: Checkpoint) -> Option<Stop> {
        unreachable!("nothing is trained")
    }
}

#[test]
fn groups_of_any_size_make_the_same_report() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let task = task(folder.path(), &["one", "two", "three"], &device);
    let member = fs::metadata(&task.members[0].weights).unwrap().len();
    let evaluate = |limit| {
        let mut watch = Watch {
            last: None,
            stop: None,
        };
        let evaluated = evaluate_in_groups(&task, &device, &mut watch, limit).unwrap();
        let last = watch.last.unwrap();
        // Two batches of each split, for each member.
        assert_eq!((last.step, last.steps), (12, 12));
        evaluated
    };
    let sizes = |limit| -> Vec<usize> {
        let groups = groups(&task.members, limit);
        groups.iter().map(|group| group.len()).collect()
    };
    let together = evaluate(u64::MAX);
    for (limit, expected) in [
        (0, &[1, 1, 1][..]),
        (2 * member - 1, &[1, 1, 1]),
        (2 * member, &[2, 1]),
        (u64::MAX, &[3]),
    ] {
        assert_eq!(sizes(limit), expected);
        assert_eq!(evaluate(limit), together);
    }
}

#[test]
fn a_group_is_loaded_when_the_group_before_it_is_done() {
    let device = Device::flex();
    // The last member's file goes away while the first member predicts.
    for (limit, steps) in [(0, 8), (u64::MAX, 12)] {
        let folder = tempfile::tempdir().unwrap();
        let task = task(folder.path(), &["one", "two", "three"], &device);
        let mut callbacks = Removing {
            file: task.members[2].weights.clone(),
            steps: Cell::new(0),
        };
        let evaluated = evaluate_in_groups(&task, &device, &mut callbacks, limit);
        match limit {
            0 => assert!(
                matches!(
                    evaluated,
                    Err(EvaluateError::Weights(CheckpointError::Read { .. }))
                ),
                "{evaluated:?}"
            ),
            _ => assert!(matches!(evaluated, Ok(Evaluated::Finished(_)))),
        }
        assert_eq!(callbacks.steps.get(), steps);
    }
}
