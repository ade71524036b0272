//! Predictions of a trained network for images.

use burn::tensor::Device;
use quartet_shared::dataset::Images;

use crate::evaluate;
use crate::models::Network;

/// Images per forward pass.
const BATCH: usize = 32;

/// Softmax outputs of a network for images of `[height, width]` pixels, `[images, classes]`, row-major. The
/// size is that of the data set's images: what the network saw in training. No label is used.
#[must_use]
pub fn predict(network: &Network, images: &Images, size: [u16; 2], device: &Device) -> Vec<f32> {
    evaluate::predict(network, images, size, BATCH, device, &mut |_| None).expect("nobody stops it")
}
