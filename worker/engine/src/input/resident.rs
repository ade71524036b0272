//! A data set whose pixels lie on the device.

use std::io;

use burn::tensor::{Device, Int, Tensor, TensorData};
use quartet_shared::dataset::{Dataset, ImageShape, Images, Split};

/// Images that are read and sent at once.
const CHUNK: usize = 4096;

/// The pixels of a data set on a device.
#[derive(Clone, Debug)]
pub(super) struct Resident {
    /// `[images, height, width * channels]` of bytes, by split; none of a split without images.
    splits: [Option<Tensor<3, Int>>; 3],
}

impl Resident {
    /// How many bytes of pixels these splits have.
    pub(super) fn bytes(dataset: &Dataset, splits: &[Split]) -> u64 {
        let images = splits.iter().map(|&split| dataset.split(split));
        let images: usize = images.map(|images| images.labels.len()).sum();
        images as u64 * dataset.shape().bytes() as u64
    }

    /// Sends the pixels of these splits to the device.
    pub(super) fn new(dataset: &Dataset, splits: &[Split], device: &Device) -> io::Result<Self> {
        let shape = dataset.shape();
        let mut kept = [const { None }; 3];
        for (to, split) in kept.iter_mut().zip(Split::ALL) {
            if splits.contains(&split) {
                *to = sent(dataset.split(split), shape, device)?;
            }
        }
        Ok(Self { splits: kept })
    }

    /// The pixels of a split.
    ///
    /// # Panics
    /// If it was not sent, or has no images.
    pub(super) fn pixels(&self, split: Split) -> Tensor<3, Int> {
        let at = Split::ALL.iter().position(|&other| other == split);
        let images = at.and_then(|at| self.splits[at].clone());
        images.expect("a split with images")
    }
}

fn sent(images: &Images, shape: ImageShape, device: &Device) -> io::Result<Option<Tensor<3, Int>>> {
    let n = images.labels.len();
    let width = shape.width * shape.channels.count();
    if n == 0 {
        return Ok(None);
    }
    // Written piece by piece, as joining pieces would need twice the memory.
    let all: Tensor<3, Int> = quartet_kernels::zero_bytes([n, shape.height, width], device);
    for start in (0..n).step_by(CHUNK) {
        let end = n.min(start + CHUNK);
        let mut bytes = Vec::with_capacity((end - start) * shape.bytes());
        for index in start..end {
            images.read(index, shape.bytes(), &mut bytes)?;
        }
        let data = TensorData::new(bytes, [end - start, shape.height, width]);
        quartet_kernels::write_int(&all.clone().narrow(0, start, end - start), data);
    }
    Ok(Some(all))
}
