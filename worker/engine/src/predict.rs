//! Predictions of trained networks for pictures.

use burn::tensor::Device;
use quartet_shared::dataset::Images;
use quartet_shared::picture::Picture;

use crate::evaluate;
use crate::models::Network;

/// Images per forward pass.
const BATCH: usize = 32;

/// Softmax outputs of each network for pictures, `[pictures, classes]`, row-major. The pictures are made as
/// small as the images of the data set, `[height, width]`, first: what the network saw in training.
#[must_use]
pub fn predict(
    networks: &[&Network],
    pictures: &[Picture],
    [height, width]: [u16; 2],
    device: &Device,
) -> Vec<Vec<f32>> {
    let pixels = pictures
        .iter()
        .flat_map(|picture| picture.clone().resized(height, width).pixels().to_vec());
    let images = Images {
        labels: vec![0; pictures.len()],
        pixels: pixels.collect(),
    };
    let size = [height, width];
    evaluate::predict(networks, &images, size, BATCH, device, &mut |_| None)
        .expect("nobody stops it")
}
