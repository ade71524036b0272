//! Predictions of a trained network for images.

use std::io;

use burn::tensor::Device;
use quartet_shared::dataset::{ImageShape, Images};

use crate::evaluate;
use crate::models::Network;

/// Images per forward pass.
const BATCH: usize = 32;

/// Softmax outputs of a network for images of a shape, `[images, classes]`, row-major. The shape is that of
/// the data set's images: what the network saw in training. No label is used.
///
/// # Errors
/// The pixels cannot be read from their file.
pub fn predict(
    network: &Network,
    images: &Images,
    shape: ImageShape,
    device: &Device,
) -> io::Result<Vec<f32>> {
    let outputs = evaluate::predict(network, images, shape, BATCH, device, &mut |_| None)?;
    Ok(outputs.expect("nobody stops it"))
}
