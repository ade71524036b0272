//! What snapshots share with the training that goes on, and what of a backend's layout gets into files.

use burn::module::Module;
use quartet_agent::executor::Snapshot;
use quartet_shared::dataset::Split;

use super::*;
use crate::checkpoint::save_network;
use crate::input::{Batch, Input};
use crate::models::parameters::parameters;

/// A small network with every kind of operation of a residual one.
pub(super) fn residual() -> TrainTask {
    let mut task = task(16, 0.05, 1);
    task.run.backbone = Backbone::Resnet50;
    task.run.dropout = 0.0;
    task
}

fn batch(task: &TrainTask, device: &Device) -> Batch {
    let input = Input::new(&task.dataset, task.run.image_size, device);
    input
        .evaluation_batch(task.dataset.split(Split::Train), 0..8)
        .unwrap()
}

#[test]
fn later_steps_do_not_change_a_snapshot() {
    for device in cpus() {
        let folder = tempfile::tempdir().unwrap();
        let task = residual();
        let (mut state, _) = prepare(&task, &device).unwrap();
        for step in 0..4 {
            let batch = batch(&task, &device);
            (state, _) = state.step(batch, Epoch(1), step);
            let position = Position::within(Epoch(1), step as u32 + 1);
            let at_once = state.snapshot(position, None);
            let later = state.snapshot(position, None);
            let write = |snapshot, stem: &str| {
                let snapshot: Box<dyn Snapshot> = Box::new(snapshot);
                let files = snapshot
                    .write(folder.path(), &format!("{step}-{stem}"))
                    .unwrap();
                (files.weights.blob, files.training_state.blob)
            };
            let expected = write(at_once, "at-once");
            // The first update meets shared memory, the second its own.
            for more in 0..2 {
                let batch = self::batch(&task, &device);
                (state, _) = state.step(batch, Epoch(2), more);
            }
            assert_ne!(write(state.snapshot(position, None), "moved").0, expected.0);
            assert_eq!(write(later, "later"), expected, "{device:?}, step {step}");
        }
    }
}

#[test]
fn files_do_not_show_the_layout_of_a_backend() {
    let folder = tempfile::tempdir().unwrap();
    let task = residual();
    let mut found = Vec::new();
    for (i, device) in cpus().iter().enumerate() {
        let (state, _) = prepare(&task, device).unwrap();
        let path = folder.path().join(i.to_string());
        let blob = save_network(&state.network.valid(), &path).unwrap().blob;
        // Gradients come in the order of the weights, too: the first moment is a tenth of them.
        let (state, _) = state.step(batch(&task, device), Epoch(1), 0);
        let moments = state.adam.moments.into_iter().map(|(name, moments)| {
            let m = moments.m.into_data_as::<f32>().try_to_vec::<f32>().unwrap();
            (name, (moments.shape, m))
        });
        let statistics = parameters(&state.network)
            .into_iter()
            .map(|(name, parameter)| {
                let values = parameter.values.into_data_as::<f32>();
                (name, (parameter.shape, values.try_to_vec::<f32>().unwrap()))
            });
        let statistics = statistics.filter(|(name, _)| name.contains(".running_"));
        // The gradient of a bias before a batch normalisation is 0 but for rounding.
        let moments = moments.filter(|(name, _)| !name.ends_with(".bias"));
        found.push((blob, moments.chain(statistics).collect::<Vec<_>>()));
    }
    let (blob, tensors) = &found[0];
    assert!(
        tensors
            .iter()
            .any(|(_, (shape, _))| shape.len() == 4 && shape[2..] == [3, 3])
    );
    for (other_blob, others) in &found[1..] {
        assert_eq!(other_blob, blob);
        for ((name, (shape, values)), (other, (other_shape, other_values))) in
            tensors.iter().zip(others)
        {
            assert_eq!((name, shape), (other, other_shape));
            let largest = values.iter().fold(1e-6_f32, |m, v| m.max(v.abs()));
            let pairs = values.iter().zip(other_values);
            let difference = pairs.fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(
                difference / largest < 0.02,
                "{name}: {difference} of {largest}"
            );
        }
    }
}
