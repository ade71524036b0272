//! Soft labels.

use super::shared::residual;
use super::*;
use crate::input::{Batch, Input};
use crate::train::prepare::prepare;

/// A batch of eight images that all have these votes, or this label.
fn batch(task: &TrainTask, label: u8, votes: &[u8], device: &Device) -> Batch {
    let mut images = task.dataset.split(Split::Train).clone();
    images.labels.fill(label);
    images.votes = votes.repeat(images.len());
    Input::new(&task.dataset, task.run.image_size, device)
        .evaluation_batch(&images, 0..8)
        .unwrap()
}

#[test]
fn the_loss_of_votes_is_the_mean_of_the_classes_losses() {
    for device in cpus() {
        let task = residual();
        let (state, _) = prepare(&task, &device).unwrap();
        let loss = |label, votes: &[u8]| {
            let batch = batch(&task, label, votes, &device);
            let (loss, statistics) = state.forward(batch, Epoch(1), 0);
            let correct = statistics
                .into_data_as::<f32>()
                .try_to_vec::<f32>()
                .unwrap()[1];
            (loss.into_scalar::<f32>(), correct)
        };
        let [first, second, third] = [0, 1, 2].map(|label| loss(label, &[]));
        let (soft, correct) = loss(0, &[5, 3, 2]);
        let expected = 0.5 * first.0 + 0.3 * second.0 + 0.2 * third.0;
        assert!((soft - expected).abs() < 1e-5, "{soft} {expected}");
        // Right is who says the class of most votes.
        assert_eq!(correct, first.1);
        assert_eq!(first.1 + second.1 + third.1, 8.0);
    }
}

#[test]
fn votes_are_learned() {
    let device = Device::flex();
    let task = residual();
    let (mut state, _) = prepare(&task, &device).unwrap();
    let mut losses = Vec::new();
    for step in 0..12 {
        let batch = batch(&task, 0, &[6, 0, 2], &device);
        let (next, statistics) = state.step(batch, Epoch(1), step);
        state = next;
        losses.push(
            statistics
                .into_data_as::<f32>()
                .try_to_vec::<f32>()
                .unwrap()[0],
        );
    }
    // The entropy of three quarters and one quarter: no loss is below it.
    let least = -(0.75 * 0.75_f32.ln() + 0.25 * 0.25_f32.ln());
    assert!(losses.iter().all(|&loss| loss > least - 1e-4), "{losses:?}");
    assert!(losses[11] < losses[0], "{losses:?}");
}
