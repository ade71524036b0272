//! With fixed addresses, as on a GPU, a training does what it does without, to the last bit.

use quartet_shared::spec::Precision;

use super::*;

/// 20 steps in two epochs, the last of each with fewer images.
fn tasks() -> Vec<TrainTask> {
    let mut tasks = Vec::new();
    for backbone in Backbone::ALL {
        for precision in [Precision::Tf32, Precision::Bf16] {
            let mut task = task(38, 0.05, 2);
            task.experiment.batch_size = 4;
            task.experiment.precision = precision;
            task.run.backbone = backbone;
            task.run.image_size = backbone.minimum_image_size();
            tasks.push(task);
        }
    }
    tasks
}

fn train_to(compute: &Compute, task: &TrainTask, keep: &mut Keep<'_>) -> Trained {
    super::super::train(task, compute.clone(), keep).unwrap()
}

#[test]
fn twenty_steps_at_fixed_addresses_are_those_at_others() {
    for device in cpus().into_iter().filter(quartet_kernels::is_native) {
        let (free, fixed) = (Compute::from(&device), Compute::rehearsed(&device));
        for task in tasks() {
            let folders = [0, 1, 2].map(|_| tempfile::tempdir().unwrap());
            let [expected, first, second] = folders.each_ref().map(|folder| folder.path());
            let mut undisturbed = Keep::new(expected);
            train_to(&free, &task, &mut undisturbed);

            // Stopped within the second epoch, with the state that the next one resumes from.
            let mut begun = Keep::answering(first, 17, Stop::Drain);
            assert!(matches!(
                train_to(&fixed, &task, &mut begun),
                Trained::Stopped
            ));
            let resumed = TrainTask {
                resume: begun.resume(None),
                ..task.clone()
            };
            let at = resumed.resume.as_ref().unwrap().position;
            assert!(at.epoch == Epoch(1) && at.step > 0, "{at}");
            let mut rest = Keep::new(second);
            train_to(&fixed, &resumed, &mut rest);

            let done: Vec<Done> = begun.done.into_iter().chain(rest.done).collect();
            assert_same_epochs(&undisturbed.done, &done);
        }
    }
}

#[test]
fn a_snapshot_keeps_its_values_while_training_goes_on() {
    for device in cpus().into_iter().filter(quartet_kernels::is_native) {
        let task = TrainTask {
            checkpoint_interval: Some(Duration::ZERO),
            ..task(16, 0.05, 1)
        };
        // Written only after the training has ended.
        let mut late = Late::default();
        super::super::train(&task, Compute::rehearsed(&device), &mut late).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut keep = Keep::new(folder.path());
        super::super::train(&task, Compute::from(&device), &mut keep).unwrap();
        let states = keep.states.iter().map(|(_, files)| files);
        let expected: Vec<_> = states
            .chain(keep.done.iter().map(|done| &done.files))
            .collect();
        assert_eq!(late.0.len(), expected.len());
        for (number, (checkpoint, expected)) in late.0.into_iter().zip(expected).enumerate() {
            let stem = format!("late-{number}");
            let files = checkpoint.snapshot.write(folder.path(), &stem).unwrap();
            assert_eq!(files.weights.blob, expected.weights.blob, "{number}");
        }
    }
}

/// Keeps the snapshots themselves.
#[derive(Default)]
struct Late(Vec<Checkpoint>);

impl Callbacks for Late {
    fn on_progress(&mut self, _: Progress) {}

    fn stop(&self) -> Option<Stop> {
        None
    }

    fn wants_mid_epoch_checkpoint(&self) -> bool {
        true
    }

    fn on_predictions(&mut self, _: &RunName, _: &Predictions) {}

    fn on_checkpoint(&mut self, checkpoint: Checkpoint) -> Option<Stop> {
        self.0.push(checkpoint);
        None
    }
}
