//! The operations of LibTorch.
//!
//! Each file adds a trait to burn's backend with its operations for [`LibTorch`] and, with their gradients,
//! for `Autodiff<LibTorch>`; burn's dispatch chooses between the two. Whatever is kept for the backward pass
//! is a [`TchTensor`], so that burn knows that its memory is shared and writes nothing into it.
//!
//! - `conv`, `norm`, `loss`, `elementwise`: convolution, batch normalisation, cross-entropy, the rest
//! - `weights`, `optimizer`: the weights of all convolutions in bfloat16, and Adam, in one call each
//! - `images`: images out of bytes
//! - `transfer`: from the host to a GPU, copies, addresses
//! - `recording`: CUDA graphs
//! - `graph`: nodes of burn's autodiff graph
//! - `ffi`: what tch does not bind

#![expect(
    deprecated,
    reason = "burn-tch is the only backend with cuDNN and oneDNN, and this project is meant to have it"
)]

mod added;
mod conv;
mod elementwise;
mod ffi;
mod graph;
mod images;
mod loss;
mod norm;
mod optimizer;
mod recording;
mod transfer;
mod weights;

use burn::backend::DispatchDevice;
use burn::backend::libtorch::TchTensor;
use burn::tensor::Device;

pub(crate) use conv::{conv2d, conv2d_combined};
pub(crate) use elementwise::{add_scaled, channels_last, global_avg_pool, relu};
pub(crate) use images::{images, images_on_host, makes_images};
pub(crate) use loss::cross_entropy;
pub(crate) use norm::{batch_norm, conv2d_batch_norm};
pub(crate) use optimizer::AdamList;
pub(crate) use recording::{Recording, RecordingFamily};
pub(crate) use transfer::{
    address, copied, flat, gpu, is_idle, observed, overwrite, peak_bytes, release_memory,
    set_gpu_arithmetic, upload, upload_int, write, write_int, zero_bytes,
};
pub(crate) use weights::bf16_weights;

pub(crate) fn is_torch(device: &Device) -> bool {
    matches!(
        device.clone().inner().as_dispatch(),
        DispatchDevice::LibTorch(_)
    )
}

/// The result of a call into LibTorch; as with burn's own operations a failure is a panic.
fn done<T>(result: Result<T, ffi::TorchError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// A tensor with memory of its own.
fn fresh(tensor: tch::Tensor) -> TchTensor {
    TchTensor::new(tensor)
}

/// `x` in the memory format and type of `like`, which may be `x` itself.
fn converted(x: &TchTensor, like: &tch::Tensor) -> TchTensor {
    TchTensor::from_existing(done(ffi::convert(&x.tensor, like)), x.storage.clone())
}
