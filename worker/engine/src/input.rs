//! From packed images to the networks' input, on the device.
//!
//! The host reads the images, draws the random changes and builds two small matrices per image; the device
//! gets the u8 pixels and the matrices, and multiplies: see [`AugmentationParams`]. Where the device keeps
//! all pixels ([`Input::keeping`]), it gets the numbers of the images and of their changes, and builds the
//! same matrices. The channels of a colour image are changed alike, and stay in the order red, green, blue; a
//! gray image is changed once and repeated three times. Nothing depends on which worker computes it or on
//! what came before.

mod ahead;
mod augmentation;
mod batch;
pub(crate) mod random;
mod resident;
mod sampler;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use quartet_kernels::{upload, upload_int};
use quartet_shared::dataset::{Dataset, ImageShape, Images, Split};
use quartet_shared::ids::Epoch;
use quartet_shared::spec::Augmentation;

pub(crate) use ahead::batches_ahead;
pub use augmentation::AugmentationParams;
pub use batch::Batch;
pub(crate) use batch::{BatchKind, DeviceBatch, HostBatch};
use batch::{Change, Source};
use resident::{Resident, packed};
pub use sampler::Sampler;

/// Makes batches of one data set for one image size on one device.
#[derive(Clone, Debug)]
pub struct Input {
    shape: ImageShape,
    size: usize,
    device: Device,
    /// `[1, S, height]` and `[1, width, S]`: resize and scaling alone.
    unchanged: (Tensor<3>, Tensor<3>),
    kept: Option<Resident>,
    /// Whether a thread of their own makes batches, while the device computes.
    ahead: bool,
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
        let [rows, columns] = matrices(&[AugmentationParams::NONE], size, shape)
            .map(|matrix| upload::<3>(matrix, device));
        Self {
            shape,
            size,
            device: device.clone(),
            unchanged: (rows, columns.swap_dims(1, 2)),
            kept: None,
            ahead: false,
        }
    }

    /// With batches that a thread of their own makes, one ahead, for devices that compute by themselves.
    #[must_use]
    pub(crate) fn made_ahead(self) -> Self {
        Self {
            ahead: true,
            ..self
        }
    }

    /// Whether a thread of their own is to make batches. Those of pixels that the device keeps are made in no
    /// time.
    pub(crate) fn is_made_ahead(&self) -> bool {
        self.ahead && self.kept.is_none()
    }

    /// For networks that take `image_size` pixels square, with the pixels that the device has.
    #[must_use]
    pub(crate) fn of_size(&self, image_size: u32) -> Self {
        let plain = Self::of_shape(self.shape, image_size, &self.device);
        let resized = |kept: &Resident| kept.of_size(plain.size, self.shape, &self.device);
        Self {
            kept: self.kept.as_ref().map(resized),
            ahead: self.ahead,
            ..plain
        }
    }

    /// With the pixels of these splits of its data set on the device, if they are no more than `limit` bytes.
    /// Batches are the same, bit for bit.
    ///
    /// # Errors
    /// The pixels cannot be read from their file.
    pub fn keeping(self, dataset: &Dataset, splits: &[Split], limit: u64) -> io::Result<Self> {
        let kept = match Resident::bytes(dataset, splits) <= limit {
            true => Some(Resident::new(dataset, splits, self.size, &self.device)?),
            false => None,
        };
        Ok(Self { kept, ..self })
    }

    /// Whether the device keeps the pixels.
    pub(crate) fn keeps(&self) -> bool {
        self.kept.is_some()
    }

    /// Where batches are made.
    pub(crate) fn device(&self) -> &Device {
        &self.device
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
        let host = self.host_training(images, indices, augmentation, seed, epoch)?;
        Ok(self.decode(&self.upload(host)))
    }

    /// [`training`](Self::training), while it is still on the host.
    pub(crate) fn host_training(
        &self,
        images: &Images,
        indices: &[usize],
        augmentation: &Augmentation,
        seed: u64,
        epoch: Epoch,
    ) -> io::Result<HostBatch> {
        let params: Vec<AugmentationParams> = indices
            .iter()
            .map(|&index| AugmentationParams::new(augmentation, seed, epoch, index))
            .collect();
        self.host_augmented(images, indices, &params)
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
        let host = self.host_augmented(images, indices, params)?;
        Ok(self.decode(&self.upload(host)))
    }

    fn host_augmented(
        &self,
        images: &Images,
        indices: &[usize],
        params: &[AugmentationParams],
    ) -> io::Result<HostBatch> {
        let change = match &self.kept {
            Some(_) => Change::Params(packed(params)),
            None => {
                let [rows, columns] = matrices(params, self.size, self.shape);
                Change::Matrices(rows, columns)
            }
        };
        self.host_batch(images, Some(Split::Train), indices.iter().copied(), change)
    }

    /// The images of `range` of a split in their order, resized and scaled only.
    ///
    /// # Errors
    /// The pixels cannot be read from their file.
    pub fn evaluation_batch(&self, images: &Images, range: Range<usize>) -> io::Result<Batch> {
        let host = self.host_batch(images, None, range, Change::Nothing)?;
        Ok(self.decode(&self.upload(host)))
    }

    /// [`evaluation_batch`](Self::evaluation_batch) of a split, while it is still on the host.
    pub(crate) fn host_evaluation(
        &self,
        images: &Images,
        split: Split,
        range: Range<usize>,
    ) -> io::Result<HostBatch> {
        self.host_batch(images, Some(split), range, Change::Nothing)
    }

    /// Images of a split, or such whose pixels are sent in any case.
    fn host_batch(
        &self,
        images: &Images,
        split: Option<Split>,
        indices: impl ExactSizeIterator<Item = usize> + Clone,
        change: Change<TensorData, TensorData>,
    ) -> io::Result<HostBatch> {
        let n = indices.len();
        let source = match split.filter(|_| self.kept.is_some()) {
            Some(split) => {
                let numbers: Vec<i64> = indices.clone().map(|index| index as i64).collect();
                Source::Kept(split, TensorData::new(numbers, [n]))
            }
            None => {
                let bytes = self.shape.bytes();
                let mut pixels = Vec::with_capacity(n * bytes);
                for index in indices.clone() {
                    images.read(index, bytes, &mut pixels)?;
                }
                let width = self.shape.width * self.shape.channels.count();
                Source::Pixels(TensorData::new(pixels, [n, self.shape.height, width]))
            }
        };
        let labels = indices.clone().map(|i| f32::from(images.labels[i]));
        Ok(HostBatch {
            images: n,
            source,
            change,
            labels: TensorData::new(labels.collect(), [n, 1]),
            distributions: distributions(images, indices),
        })
    }

    /// Sends a batch to the device.
    pub(crate) fn upload(&self, host: HostBatch) -> DeviceBatch {
        let device = &self.device;
        DeviceBatch {
            source: match host.source {
                Source::Pixels(pixels) => Source::Pixels(upload_int(pixels, device)),
                Source::Kept(split, indices) => Source::Kept(split, upload_int(indices, device)),
            },
            change: match host.change {
                Change::Nothing => Change::Nothing,
                Change::Matrices(rows, columns) => {
                    Change::Matrices(upload(rows, device), upload(columns, device))
                }
                Change::Params(params) => Change::Params(upload(params, device)),
            },
            labels: upload(host.labels, device),
            distributions: host.distributions.map(|parts| upload(parts, device)),
        }
    }

    /// The images of a batch, on the device: nothing else is sent.
    pub(crate) fn decode(&self, batch: &DeviceBatch) -> Batch {
        let DeviceBatch {
            source,
            change,
            labels,
            distributions,
        } = batch.clone();
        let pixels = match (source, &self.kept) {
            (Source::Pixels(pixels), _) => pixels,
            (Source::Kept(split, indices), Some(kept)) => kept.pixels(split, indices),
            (Source::Kept(..), None) => unreachable!("numbers are of pixels that are kept"),
        };
        let (rows, columns) = match (change, &self.kept) {
            (Change::Nothing, _) => self.unchanged.clone(),
            (Change::Matrices(rows, columns), _) => (rows, columns.swap_dims(1, 2)),
            (Change::Params(params), Some(kept)) => kept.matrices(params),
            (Change::Params(_), None) => unreachable!("parameters are sent where pixels are kept"),
        };
        let (n, size) = (labels.dims()[0], self.size);
        let (width, channels) = (self.shape.width, self.shape.channels.count());
        // [N, S, height] x [N, height, width * channels]
        let mut resized = rows.matmul(pixels.float());
        if channels > 1 {
            resized = resized
                .reshape([n, size, width, channels])
                .permute([0, 3, 1, 2])
                .reshape([n, channels * size, width]);
        }
        // [N, channels * S, width] x [N, width, S]
        let resized = resized.matmul(columns);
        let resized = resized.reshape([n, channels, size, size]);
        Batch {
            images: resized.expand([n, 3, size, size]),
            labels: labels.int(),
            distributions,
        }
    }
}

/// The parts of the votes, if the images have any.
fn distributions(
    images: &Images,
    indices: impl ExactSizeIterator<Item = usize>,
) -> Option<TensorData> {
    let n = indices.len();
    let mut parts = Vec::new();
    for index in indices {
        let votes = images.votes(index)?;
        let all: f32 = votes.iter().copied().map(f32::from).sum();
        parts.extend(votes.iter().map(|&votes| f32::from(votes) / all));
    }
    let classes = parts.len() / n.max(1);
    (n > 0).then(|| TensorData::new(parts, [n, classes]))
}

/// `A_y` as `[N, S, height]` and `A_x / 255` as `[N, S, width]`.
fn matrices(
    params: &[AugmentationParams],
    size: usize,
    ImageShape { height, width, .. }: ImageShape,
) -> [TensorData; 2] {
    let mut rows = vec![0.0; params.len() * size * height];
    let mut columns = vec![0.0; params.len() * size * width];
    let parts = rows
        .chunks_exact_mut(size * height)
        .zip(columns.chunks_exact_mut(size * width));
    for (change, (rows, columns)) in params.iter().zip(parts) {
        change.rows(size, height, rows);
        change.columns(size, width, columns);
    }
    [
        TensorData::new(rows, [params.len(), size, height]),
        TensorData::new(columns, [params.len(), size, width]),
    ]
}
