//! Predictions of trained networks for images.

use burn::tensor::Device;
use quartet_shared::dataset::Images;

use crate::evaluate;
use crate::models::Network;

/// Images per forward pass.
const BATCH: usize = 32;

/// Softmax outputs of each network for images of `[height, width]` pixels, `[images, classes]`, row-major.
/// The size is that of the data set's images: what the network saw in training. No label is used.
#[must_use]
pub fn predict(
    networks: &[&Network],
    images: &Images,
    size: [u16; 2],
    device: &Device,
) -> Vec<Vec<f32>> {
    evaluate::predict(networks, images, size, BATCH, device, &mut |_| None)
        .expect("nobody stops it")
}
