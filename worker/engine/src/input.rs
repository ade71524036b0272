//! From packed gray images to the networks' input, on the device.
//!
//! The host draws the random changes and builds two small matrices per image; the device gets the u8 pixels
//! and the matrices, and multiplies: see [`AugmentationParams`]. Nothing depends on which worker computes it
//! or on what came before.

mod augmentation;
pub(crate) mod random;
mod sampler;

#[cfg(test)]
mod tests;

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};
use quartet_kernels::{upload, upload_bytes};
use quartet_shared::dataset::{Dataset, Images};
use quartet_shared::ids::Epoch;
use quartet_shared::spec::Augmentation;

pub use augmentation::AugmentationParams;
pub use sampler::Sampler;

/// Images and their classes on the device, without autodiff.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[N, 3, S, S]` in `[0, 1]`, three equal channels.
    pub images: Tensor<4>,
    /// `[N, 1]`, classes from 0.
    pub labels: Tensor<2, Int>,
}

/// Makes batches of one data set for one image size on one device.
#[derive(Clone, Debug)]
pub struct Input {
    height: usize,
    width: usize,
    size: usize,
    device: Device,
    /// `[1, S, height]` and `[1, width, S]`: resize and scaling alone.
    unchanged: (Tensor<3>, Tensor<3>),
}

impl Input {
    /// For images of the size of `dataset`'s, networks that take `image_size` pixels square, and a device
    /// without autodiff.
    #[must_use]
    pub fn new(dataset: &Dataset, image_size: u32, device: &Device) -> Self {
        let size = [dataset.height, dataset.width].map(usize::from);
        Self::of_size(size, image_size, device)
    }

    /// For images of `[height, width]` pixels.
    #[must_use]
    pub fn of_size([height, width]: [usize; 2], image_size: u32, device: &Device) -> Self {
        let size = image_size as usize;
        let unchanged = matrices(&[AugmentationParams::NONE], size, height, width, device);
        Self {
            height,
            width,
            size,
            device: device.clone(),
            unchanged,
        }
    }

    /// A training batch: the images at `indices`, each changed by its [`AugmentationParams`] of this epoch.
    #[must_use]
    pub fn training(
        &self,
        images: &Images,
        indices: &[usize],
        augmentation: &Augmentation,
        seed: u64,
        epoch: Epoch,
    ) -> Batch {
        let params: Vec<AugmentationParams> = indices
            .iter()
            .map(|&index| AugmentationParams::new(augmentation, seed, epoch, index))
            .collect();
        self.augmented(images, indices, &params)
    }

    /// The images at `indices`, each changed by its parameters.
    #[must_use]
    pub fn augmented(
        &self,
        images: &Images,
        indices: &[usize],
        params: &[AugmentationParams],
    ) -> Batch {
        let area = self.height * self.width;
        let pixels = indices
            .iter()
            .flat_map(|&i| &images.pixels[i * area..(i + 1) * area])
            .copied()
            .collect();
        let labels = indices
            .iter()
            .map(|&i| f32::from(images.labels[i]))
            .collect();
        self.batch(
            pixels,
            labels,
            matrices(params, self.size, self.height, self.width, &self.device),
        )
    }

    /// The images of `range` in their order, resized and scaled only.
    #[must_use]
    pub fn evaluation_batch(&self, images: &Images, range: Range<usize>) -> Batch {
        let area = self.height * self.width;
        let pixels = images.pixels[range.start * area..range.end * area].to_vec();
        let labels = images.labels[range]
            .iter()
            .map(|&label| f32::from(label))
            .collect();
        self.batch(pixels, labels, self.unchanged.clone())
    }

    fn batch(
        &self,
        pixels: Vec<u8>,
        labels: Vec<f32>,
        (rows, columns): (Tensor<3>, Tensor<3>),
    ) -> Batch {
        let (n, size) = (labels.len(), self.size);
        let pixels = TensorData::new(pixels, [n, self.height, self.width]);
        let pixels = upload_bytes::<3>(pixels, &self.device).float();
        // [N, S, height] x [N, height, width] x [N, width, S]
        let gray = rows.matmul(pixels).matmul(columns);
        let images = gray.reshape([n, 1, size, size]).expand([n, 3, size, size]);
        let labels = TensorData::new(labels, [n, 1]);
        let labels = upload(labels, &self.device).int();
        Batch { images, labels }
    }
}

/// `A_y` as `[N, S, height]` and `A_x^T / 255` as `[N, width, S]`.
fn matrices(
    params: &[AugmentationParams],
    size: usize,
    height: usize,
    width: usize,
    device: &Device,
) -> (Tensor<3>, Tensor<3>) {
    let mut rows = vec![0.0; params.len() * size * height];
    let mut columns = vec![0.0; params.len() * size * width];
    let parts = rows
        .chunks_exact_mut(size * height)
        .zip(columns.chunks_exact_mut(size * width));
    for (change, (rows, columns)) in params.iter().zip(parts) {
        change.rows(size, height, rows);
        change.columns(size, width, columns);
    }
    let rows = upload(TensorData::new(rows, [params.len(), size, height]), device);
    let columns: Tensor<3> = upload(
        TensorData::new(columns, [params.len(), size, width]),
        device,
    );
    (rows, columns.swap_dims(1, 2))
}
