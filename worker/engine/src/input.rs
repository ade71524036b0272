//! From packed images to the networks' input, on the device.
//!
//! The host reads the images and draws the random changes; the device gets the u8 pixels and five numbers for
//! each image ([`AugmentationParams`]), and makes the images in one pass. Where it keeps all pixels
//! ([`Input::keeping`]), it gets the numbers of the images instead. A GPU that cannot make them gets images
//! that the host has made, with the same bits; a device that is not LibTorch's gets two small matrices for
//! each, and multiplies. The channels of a colour image are changed alike, and stay in the order red, green,
//! blue; a gray image is changed once and repeated three times. Nothing depends on which worker computes it
//! or on what came before.

mod ahead;
mod augmentation;
mod batch;
mod matrices;
pub(crate) mod random;
mod resident;
mod sampler;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};
use quartet_kernels::{ImageMaker, Pictures, images, images_on_host, upload, upload_int};
use quartet_shared::dataset::{Dataset, ImageShape, Images, Split};
use quartet_shared::ids::Epoch;
use quartet_shared::spec::Augmentation;

pub(crate) use ahead::batches_ahead;
pub use augmentation::AugmentationParams;
pub use batch::Batch;
pub(crate) use batch::{BatchKind, DeviceBatch, HostBatch};
use batch::{Change, Source};
use matrices::Matrices;
use resident::Resident;
pub use sampler::Sampler;

/// What makes images.
#[derive(Clone, Debug)]
enum Maker {
    Device,
    Host,
    Matrices(Box<Matrices>),
}

/// Makes batches of one data set for one image size on one device.
#[derive(Clone, Debug)]
pub struct Input {
    shape: ImageShape,
    size: usize,
    device: Device,
    maker: Maker,
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
        Self {
            shape,
            size,
            device: device.clone(),
            maker: match ImageMaker::of(device) {
                ImageMaker::Device => Maker::Device,
                ImageMaker::Host => Maker::Host,
                ImageMaker::Nobody => Maker::Matrices(Box::new(Matrices::new(shape, size, device))),
            },
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

    /// Whether the device makes the images.
    pub(crate) fn is_made_by_device(&self) -> bool {
        matches!(self.maker, Maker::Device)
    }

    /// For networks that take `image_size` pixels square, with the pixels that the device has.
    #[must_use]
    pub(crate) fn of_size(&self, image_size: u32) -> Self {
        Self {
            kept: self.kept.clone(),
            ahead: self.ahead,
            ..Self::of_shape(self.shape, image_size, &self.device)
        }
    }

    /// With the pixels of these splits of its data set on the device, if it makes images by itself, and they
    /// are no more than `limit` bytes. Batches are the same, bit for bit.
    ///
    /// # Errors
    /// The pixels cannot be read from their file.
    pub fn keeping(self, dataset: &Dataset, splits: &[Split], limit: u64) -> io::Result<Self> {
        let kept = match self.is_made_by_device() && Resident::bytes(dataset, splits) <= limit {
            true => Some(Resident::new(dataset, splits, &self.device)?),
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
        let split = Some(Split::Train);
        self.host_batch(images, split, indices.iter().copied(), Some(params))
    }

    /// The images of `range` of a split in their order, resized and scaled only.
    ///
    /// # Errors
    /// The pixels cannot be read from their file.
    pub fn evaluation_batch(&self, images: &Images, range: Range<usize>) -> io::Result<Batch> {
        let host = self.host_batch(images, None, range, None)?;
        Ok(self.decode(&self.upload(host)))
    }

    /// [`evaluation_batch`](Self::evaluation_batch) of a split, while it is still on the host.
    pub(crate) fn host_evaluation(
        &self,
        images: &Images,
        split: Split,
        range: Range<usize>,
    ) -> io::Result<HostBatch> {
        self.host_batch(images, Some(split), range, None)
    }

    /// Images of a split, or such whose pixels are sent in any case.
    fn host_batch(
        &self,
        images: &Images,
        split: Option<Split>,
        indices: impl ExactSizeIterator<Item = usize> + Clone,
        params: Option<&[AugmentationParams]>,
    ) -> io::Result<HostBatch> {
        let n = indices.len();
        let change = match (&self.maker, params) {
            (Maker::Host, _) | (_, None) => Change::Nothing,
            (Maker::Device, Some(params)) => Change::Params(packed(params)),
            (Maker::Matrices(matrices), Some(params)) => {
                let [rows, columns] = matrices.of(params);
                Change::Matrices(rows, columns)
            }
        };
        let source = match split.filter(|_| self.kept.is_some()) {
            Some(split) => {
                let numbers: Vec<i64> = indices.clone().map(|index| index as i64).collect();
                Source::Kept(split, TensorData::new(numbers, [n]))
            }
            None => {
                let pixels = self.pixels(images, indices.clone())?;
                match self.maker {
                    Maker::Host => {
                        let channels = self.shape.channels.count();
                        let params = params.map(packed);
                        Source::Images(images_on_host(pixels, params, channels, self.size))
                    }
                    Maker::Device | Maker::Matrices(_) => Source::Pixels(pixels),
                }
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

    /// Their bytes, `[N, height, width * channels]`.
    fn pixels(
        &self,
        images: &Images,
        indices: impl ExactSizeIterator<Item = usize>,
    ) -> io::Result<TensorData> {
        let (n, bytes) = (indices.len(), self.shape.bytes());
        let mut pixels = Vec::with_capacity(n * bytes);
        for index in indices {
            images.read(index, bytes, &mut pixels)?;
        }
        let width = self.shape.width * self.shape.channels.count();
        Ok(TensorData::new(pixels, [n, self.shape.height, width]))
    }

    /// Sends a batch to the device.
    pub(crate) fn upload(&self, host: HostBatch) -> DeviceBatch {
        let device = &self.device;
        DeviceBatch {
            source: match host.source {
                Source::Pixels(pixels) => Source::Pixels(upload_int(pixels, device)),
                Source::Kept(split, indices) => Source::Kept(split, upload_int(indices, device)),
                Source::Images(images) => Source::Images(upload(images, device)),
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
        let images = match (source, &self.kept) {
            (Source::Pixels(pixels), _) => self.images(pixels, None, change),
            (Source::Kept(split, indices), Some(kept)) => {
                self.images(kept.pixels(split), Some(indices), change)
            }
            (Source::Kept(..), None) => unreachable!("numbers are of pixels that are kept"),
            (Source::Images(images), _) => {
                let size = self.size;
                images
                    .permute([0, 3, 1, 2])
                    .expand([labels.dims()[0], 3, size, size])
            }
        };
        Batch {
            images,
            labels: labels.int(),
            distributions,
        }
    }

    /// The images at `indices`, or all of them, on the device.
    fn images(
        &self,
        pixels: Tensor<3, Int>,
        indices: Option<Tensor<1, Int>>,
        change: Change<Tensor<3>, Tensor<2>>,
    ) -> Tensor<4> {
        let parameters = match (&self.maker, change) {
            (Maker::Matrices(matrices), Change::Matrices(rows, columns)) => {
                return matrices.images(pixels, Some((rows, columns)));
            }
            (Maker::Matrices(matrices), Change::Nothing) => return matrices.images(pixels, None),
            (Maker::Device, Change::Nothing) => None,
            (Maker::Device, Change::Params(parameters)) => Some(parameters),
            (maker, change) => unreachable!("{change:?} for {maker:?}"),
        };
        let pictures = Pictures {
            pixels,
            indices,
            parameters,
            channels: self.shape.channels.count(),
        };
        images(pictures, self.size)
    }
}

/// Changes as [`Pictures`] have them, float64 `[N, 5]`.
fn packed(params: &[AugmentationParams]) -> TensorData {
    let values = params.iter().flat_map(|params| {
        let flip = f64::from(u8::from(params.flip));
        [params.tx, params.ty, params.zx, params.zy, flip]
    });
    TensorData::new(values.collect::<Vec<f64>>(), [params.len(), 5])
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
