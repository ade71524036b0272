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

#[test]
fn evaluates_members_alone_and_together() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let mut experiment = Preset::Demo.spec();
    experiment.batch_size = 2;
    let vgg = experiment
        .runs
        .iter()
        .find(|run| run.name.as_str() == "vgg16")
        .unwrap()
        .clone();
    let dataset = dataset();
    let members: Vec<Member> = ["one", "two"]
        .into_iter()
        .enumerate()
        .map(|(i, name)| {
            let run = RunSpec {
                name: name.parse().unwrap(),
                width: 0.03,
                image_size: 32,
                seed: i as u64,
                ensemble_weight: 1.0 + 2.0 * i as f64,
                ..vgg.clone()
            };
            let weights = folder.path().join(name);
            save_network(
                &NetworkConfig::of_run(&experiment, &run, &dataset.classes).init(&device, run.seed),
                &weights,
            )
            .unwrap();
            Member {
                run,
                best_epoch: Epoch(4),
                weights,
            }
        })
        .collect();

    let mut watch = Watch {
        last: None,
        stop: None,
    };
    let task = EvaluateTask {
        experiment,
        members,
        dataset: Arc::new(dataset),
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
