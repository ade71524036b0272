//! A batch on its way: on the host, on the device, and as images.

use burn::tensor::{Int, Tensor, TensorData};
use quartet_kernels::{write, write_int};
use quartet_shared::dataset::Split;

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

/// What the host says of a batch.
#[derive(Clone, Debug)]
pub(crate) struct HostBatch {
    /// How many images.
    pub(crate) images: usize,
    pub(super) source: Source<TensorData, TensorData, TensorData>,
    pub(super) change: Change<TensorData, TensorData>,
    /// `[N, 1]`.
    pub(super) labels: TensorData,
    /// `[N, classes]`.
    pub(super) distributions: Option<TensorData>,
}

/// What batches have in common that lie at the same addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchKind {
    images: usize,
    /// Place in [`Split::ALL`] of the split whose pixels the device keeps.
    kept: Option<usize>,
    /// Whether labels are soft.
    soft: bool,
}

impl HostBatch {
    /// The kind of batches of so many images that are sent.
    #[cfg(all(test, feature = "tch"))]
    pub(crate) fn kind_of(images: usize) -> BatchKind {
        BatchKind {
            images,
            kept: None,
            soft: false,
        }
    }

    pub(crate) fn kind(&self) -> BatchKind {
        let place = |split| Split::ALL.iter().position(|&other| other == split);
        BatchKind {
            images: self.images,
            kept: match self.source {
                Source::Pixels(_) | Source::Images(_) => None,
                Source::Kept(split, _) => place(split),
            },
            soft: self.distributions.is_some(),
        }
    }
}

/// A batch on the device before its images are made.
#[derive(Clone, Debug)]
pub(crate) struct DeviceBatch {
    pub(super) source: Source<Tensor<3, Int>, Tensor<1, Int>, Tensor<4>>,
    pub(super) change: Change<Tensor<3>, Tensor<2>>,
    pub(super) labels: Tensor<2>,
    pub(super) distributions: Option<Tensor<2>>,
}

/// Where the pixels are.
#[derive(Clone, Debug)]
pub(super) enum Source<P, I, M> {
    /// Bytes, `[N, height, width * channels]`.
    Pixels(P),
    /// The numbers of images of a split, `[N]`, whose pixels the device keeps.
    Kept(Split, I),
    /// Made already, `[N, S, S, channels]`.
    Images(M),
}

/// How the images are changed, beside resize and scaling.
#[derive(Clone, Debug)]
pub(super) enum Change<M, P> {
    Nothing,
    /// By `A_y` as `[N, S, height]` and `A_x / 255` as `[N, S, width]`.
    Matrices(M, M),
    /// By these parameters, float64 `[N, 5]`.
    Params(P),
}

impl DeviceBatch {
    /// Sends another batch of as many images to the addresses of this one.
    pub(crate) fn write(&mut self, host: HostBatch) {
        match (&mut self.source, host.source) {
            (Source::Pixels(to), Source::Pixels(pixels)) => write_int(to, pixels),
            (Source::Kept(to_split, to), Source::Kept(split, indices)) if *to_split == split => {
                write_int(to, indices);
            }
            (Source::Images(to), Source::Images(images)) => write(to, images),
            (to, from) => unreachable!("{from:?} for {to:?}"),
        }
        match (&self.change, host.change) {
            (Change::Nothing, Change::Nothing) => {}
            (Change::Matrices(to_rows, to_columns), Change::Matrices(rows, columns)) => {
                write(to_rows, rows);
                write(to_columns, columns);
            }
            (Change::Params(to), Change::Params(params)) => write(to, params),
            (to, from) => unreachable!("{from:?} for {to:?}"),
        }
        write(&self.labels, host.labels);
        match (&self.distributions, host.distributions) {
            (None, None) => {}
            (Some(to), Some(parts)) => write(to, parts),
            (to, from) => unreachable!("{from:?} for {to:?}"),
        }
    }
}
