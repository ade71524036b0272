//! Predictions of a trained network for images.

use burn::tensor::Device;
use quartet_shared::dataset::{ImageShape, Images};

use crate::evaluate;
use crate::models::Network;

/// Images per forward pass.
const BATCH: usize = 32;

/// Softmax outputs of a network for images of a shape, `[images, classes]`, row-major. The shape is that of
/// the data set's images: what the network saw in training. No label is used.
#[must_use]
pub fn predict(network: &Network, images: &Images, shape: ImageShape, device: &Device) -> Vec<f32> {
    evaluate::predict(network, images, shape, BATCH, device, &mut |_| None)
        .expect("nobody stops it")
}
