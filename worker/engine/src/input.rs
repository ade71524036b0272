//! From packed images to the networks' input, on the device.
//!
//! The host reads the images, draws the random changes and builds two small matrices per image; the device
//! gets the u8 pixels and the matrices, and multiplies: see [`AugmentationParams`]. The channels of a colour
//! image are changed alike, and stay in the order red, green, blue; a gray image is changed once and repeated
//! three times. Nothing depends on which worker computes it or on what came before.

mod augmentation;
pub(crate) mod random;
mod sampler;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};
use quartet_kernels::{upload, upload_bytes};
use quartet_shared::dataset::{Dataset, ImageShape, Images};
use quartet_shared::ids::Epoch;
use quartet_shared::spec::Augmentation;

pub use augmentation::AugmentationParams;
pub use sampler::Sampler;

/// Images and their classes on the device, without autodiff.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[N, 3, S, S]` in `[0, 1]`; of gray images three equal channels.
    pub images: Tensor<4>,
    /// `[N, 1]`, classes from 0.
    pub labels: Tensor<2, Int>,
    /// `[N, classes]`, rows that add up to 1: the part of the votes that each class has, where labels are
    /// soft.
    pub distributions: Option<Tensor<2>>,
}

/// Makes batches of one data set for one image size on one device.
#[derive(Clone, Debug)]
pub struct Input {
    shape: ImageShape,
    size: usize,
    device: Device,
    /// `[1, S, height]` and `[1, width, S]`: resize and scaling alone.
    unchanged: (Tensor<3>, Tensor<3>),
}

impl Input {
    /// For images of the shape of `dataset`'s, networks that take `image_size` pixels square, and a device
    /// without autodiff.
    #[must_use]
    pub fn new(dataset: &Dataset, image_size: u32, device: &Device) -> Self {
        Self::of_shape(dataset.shape(), image_size, device)
    }

    /// For images of this shape.
    #[must_use]
    pub fn of_shape(shape: ImageShape, image_size: u32, device: &Device) -> Self {
        let size = image_size as usize;
        let unchanged = matrices(&[AugmentationParams::NONE], size, shape, device);
        Self {
            shape,
            size,
            device: device.clone(),
            unchanged,
        }
    }

    /// A training batch: the images at `indices`, each changed by its [`AugmentationParams`] of this epoch.
    ///
    /// # Errors
    /// The pixels cannot be read from their file.
    pub fn training(
        &self,
        images: &Images,
        indices: &[usize],
        augmentation: &Augmentation,
        seed: u64,
        epoch: Epoch,
    ) -> io::Result<Batch> {
        let params: Vec<AugmentationParams> = indices
            .iter()
            .map(|&index| AugmentationParams::new(augmentation, seed, epoch, index))
            .collect();
        self.augmented(images, indices, &params)
    }

    /// The images at `indices`, each changed by its parameters.
    ///
    /// # Errors
    /// The pixels cannot be read from their file.
    pub fn augmented(
        &self,
        images: &Images,
        indices: &[usize],
        params: &[AugmentationParams],
    ) -> io::Result<Batch> {
        let matrices = matrices(params, self.size, self.shape, &self.device);
        self.batch(images, indices.iter().copied(), matrices)
    }

    /// The images of `range` in their order, resized and scaled only.
    ///
    /// # Errors
    /// The pixels cannot be read from their file.
    pub fn evaluation_batch(&self, images: &Images, range: Range<usize>) -> io::Result<Batch> {
        self.batch(images, range, self.unchanged.clone())
    }

    fn batch(
        &self,
        images: &Images,
        indices: impl ExactSizeIterator<Item = usize> + Clone,
        (rows, columns): (Tensor<3>, Tensor<3>),
    ) -> io::Result<Batch> {
        let (n, size) = (indices.len(), self.size);
        let ImageShape {
            height,
            width,
            channels,
        } = self.shape;
        let (bytes, channels) = (self.shape.bytes(), channels.count());
        let mut pixels = Vec::with_capacity(n * bytes);
        for index in indices.clone() {
            images.read(index, bytes, &mut pixels)?;
        }
        let pixels = TensorData::new(pixels, [n, height, width * channels]);
        let pixels = upload_bytes::<3>(pixels, &self.device).float();
        // [N, S, height] x [N, height, width * channels]
        let mut resized = rows.matmul(pixels);
        if channels > 1 {
            resized = resized
                .reshape([n, size, width, channels])
                .permute([0, 3, 1, 2])
                .reshape([n, channels * size, width]);
        }
        // [N, channels * S, width] x [N, width, S]
        let resized = resized.matmul(columns);
        let resized = resized.reshape([n, channels, size, size]);
        let labels = indices.clone().map(|i| f32::from(images.labels[i]));
        let labels = TensorData::new(labels.collect(), [n, 1]);
        Ok(Batch {
            images: resized.expand([n, 3, size, size]),
            labels: upload(labels, &self.device).int(),
            distributions: self.distributions(images, indices),
        })
    }

    /// The parts of the votes, if the images have any.
    fn distributions(
        &self,
        images: &Images,
        indices: impl ExactSizeIterator<Item = usize>,
    ) -> Option<Tensor<2>> {
        let n = indices.len();
        let mut parts = Vec::new();
        for index in indices {
            let votes = images.votes(index)?;
            let all: f32 = votes.iter().copied().map(f32::from).sum();
            parts.extend(votes.iter().map(|&votes| f32::from(votes) / all));
        }
        let classes = parts.len() / n.max(1);
        let parts = TensorData::new(parts, [n, classes]);
        (n > 0).then(|| upload(parts, &self.device))
    }
}

/// `A_y` as `[N, S, height]` and `A_x^T / 255` as `[N, width, S]`.
fn matrices(
    params: &[AugmentationParams],
    size: usize,
    ImageShape { height, width, .. }: ImageShape,
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
