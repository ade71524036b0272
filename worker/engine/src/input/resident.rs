//! A data set whose pixels lie on the device: a batch is the numbers of its images and of their changes.

use std::io;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use quartet_shared::dataset::{Dataset, ImageShape, Images, Split};

use super::augmentation::{AugmentationParams, source_of};

/// Images that are read and sent at once.
const CHUNK: usize = 4096;

/// The pixels of a data set on a device, and what matrices are made from there.
#[derive(Clone, Debug)]
pub(super) struct Resident {
    /// `[images, height, width * channels]` of bytes, by split; none of a split without images.
    splits: [Option<Tensor<3, Int>>; 3],
    rows: AxisTable,
    columns: AxisTable,
}

impl Resident {
    /// How many bytes of pixels these splits have.
    pub(super) fn bytes(dataset: &Dataset, splits: &[Split]) -> u64 {
        let images = splits.iter().map(|&split| dataset.split(split));
        let images: usize = images.map(|images| images.labels.len()).sum();
        images as u64 * dataset.shape().bytes() as u64
    }

    /// Sends the pixels of these splits to the device.
    pub(super) fn new(
        dataset: &Dataset,
        splits: &[Split],
        size: usize,
        device: &Device,
    ) -> io::Result<Self> {
        let shape = dataset.shape();
        let mut kept = [const { None }; 3];
        for (to, split) in kept.iter_mut().zip(Split::ALL) {
            if splits.contains(&split) {
                *to = sent(dataset.split(split), shape, device)?;
            }
        }
        Ok(Self {
            splits: kept,
            rows: AxisTable::new(size, shape.height, device),
            columns: AxisTable::new(size, shape.width, device),
        })
    }

    /// The same pixels, for images of another size.
    pub(super) fn of_size(&self, size: usize, shape: ImageShape, device: &Device) -> Self {
        Self {
            splits: self.splits.clone(),
            rows: AxisTable::new(size, shape.height, device),
            columns: AxisTable::new(size, shape.width, device),
        }
    }

    /// The pixels of images, `[N, height, width * channels]`. The indices, `[N]`, are of images of the split.
    pub(super) fn pixels(&self, split: Split, indices: Tensor<1, Int>) -> Tensor<3, Int> {
        let at = Split::ALL.iter().position(|&other| other == split);
        let images = at.and_then(|at| self.splits[at].clone());
        images.expect("a split with images").select(0, indices)
    }

    /// What [`super::matrices`] makes, bit for bit, of [`packed`] parameters.
    pub(super) fn matrices(&self, params: Tensor<2>) -> (Tensor<3>, Tensor<3>) {
        let column = |index: usize| params.clone().narrow(1, index, 1);
        let [tx, ty, zx, zy, flip] = [0, 1, 2, 3, 4].map(column);
        let rows = self.rows.matrices(tx, zx, None, 1.0);
        let columns = self.columns.matrices(ty, zy, Some(flip), 1.0 / 255.0);
        (rows, columns.swap_dims(1, 2))
    }
}

/// Changes as [`Resident::matrices`] takes them, float64 `[N, 5]`.
pub(super) fn packed(params: &[AugmentationParams]) -> TensorData {
    let values = params.iter().flat_map(|params| {
        let flip = f64::from(u8::from(params.flip));
        [params.tx, params.ty, params.zx, params.zy, flip]
    });
    TensorData::new(values.collect::<Vec<f64>>(), [params.len(), 5])
}

fn sent(images: &Images, shape: ImageShape, device: &Device) -> io::Result<Option<Tensor<3, Int>>> {
    let n = images.labels.len();
    let width = shape.width * shape.channels.count();
    // Written piece by piece, as joining pieces would need twice the memory.
    let all = quartet_kernels::zero_bytes([n, shape.height, width], device);
    let mut pieces = Vec::new();
    for start in (0..n).step_by(CHUNK) {
        let end = n.min(start + CHUNK);
        let mut bytes = Vec::with_capacity((end - start) * shape.bytes());
        for index in start..end {
            images.read(index, shape.bytes(), &mut bytes)?;
        }
        let data = TensorData::new(bytes, [end - start, shape.height, width]);
        match &all {
            Some(all) => {
                let all: Tensor<3, Int> = all.clone();
                quartet_kernels::write_int(&all.narrow(0, start, end - start), data);
            }
            None => pieces.push(quartet_kernels::upload_int::<3>(data, device)),
        }
    }
    let joined = || (!pieces.is_empty()).then(|| Tensor::cat(pieces.clone(), 0));
    Ok(all.filter(|_| n > 0).or_else(joined))
}

/// What is the same for all images along an axis.
#[derive(Clone, Debug)]
struct AxisTable {
    size: usize,
    /// `0..size` in float64, `[1, size]`.
    positions: Tensor<2>,
    /// The source pixel of each position, `[size]`.
    sources: Tensor<1, Int>,
    /// `0..side`, `[1, 1, side]`.
    pixels: Tensor<3, Int>,
}

impl AxisTable {
    fn new(size: usize, side: usize, device: &Device) -> Self {
        let integers = |values: Vec<i64>| {
            let n = values.len();
            quartet_kernels::upload_int::<1>(TensorData::new(values, [n]), device)
        };
        let positions: Vec<f64> = (0..size).map(|r| r as f64).collect();
        let sources = (0..size).map(|position| source_of(position, side, size) as i64);
        Self {
            size,
            positions: quartet_kernels::upload(TensorData::new(positions, [1, size]), device),
            sources: integers(sources.collect()),
            pixels: integers((0..side as i64).collect()).reshape([1, 1, side]),
        }
    }

    /// The arithmetic of `augmentation::axis`, step by step: float64 until the weights are rounded.
    fn matrices(
        &self,
        shift: Tensor<2>,
        zoom: Tensor<2>,
        flip: Option<Tensor<2>>,
        scale: f64,
    ) -> Tensor<3> {
        let size = self.size as f64;
        let (centre, last) = (size / 2.0 - 0.5, size - 1.0);
        let n = shift.dims()[0];
        let r = self.positions.clone().expand([n, self.size]);
        let r = match flip {
            // r, or last - r.
            Some(flip) => {
                let sign = flip.clone().mul_scalar(-2.0).add_scalar(1.0);
                r * sign + flip.mul_scalar(last)
            }
            None => r,
        };
        let at = (zoom * r.sub_scalar(centre) + shift.mul_scalar(size)).add_scalar(centre);
        let at = at.clamp(0.0, last);
        let low = at.clone().floor();
        let part = at - low.clone();
        let high = low.clone().add_scalar(1.0).clamp_max(last);
        let weighted = |position: Tensor<2>, weight: Tensor<2>| {
            let sources = self.sources.clone().select(0, position.int().reshape([-1]));
            let hit = sources
                .reshape([n, self.size, 1])
                .expand([n, self.size, self.pixels.dims()[2]])
                .equal(self.pixels.clone());
            let weight = weight.mul_scalar(scale).cast(DType::F32);
            hit.float() * weight.reshape([n, self.size, 1])
        };
        let rest = part.clone().neg().add_scalar(1.0);
        weighted(low, rest) + weighted(high, part)
    }
}
