//! The operations of the networks and of the optimizer that are worth a kernel of their own.
//!
//! On LibTorch (feature `tch`) they are LibTorch's, forward and backward; on every other backend they are
//! burn's. Callers need not know which: [`upload`], [`conv2d`], [`batch_norm`], [`relu`], [`add_scaled`], and
//! what is faster together, as [`conv2d_batch_norm`]; [`max_pool`], [`avg_pool_3x3_same`],
//! [`global_avg_pool`], [`cross_entropy`], [`Adam`]; [`channels_last`] puts images into the layout that they
//! are fastest in.
//!
//! - `fallback`: burn's operations
//! - `torch`: LibTorch's, as extensions of burn's backend; its unsafe code is in `torch/ffi.rs` and `shim/`,
//!   which also has convolutions by Winograd's algorithm
//! - [`images`]: what the networks are given, out of bytes
//! - [`Graph`]: operations on a GPU that are recorded once and done again and again by one launch
//! - `memory`: the allocator
//!
//! On LibTorch a failure is a panic with LibTorch's message, as those of burn's own operations are.

mod adam;
mod device;
mod fallback;
mod graph;
mod images;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod memory;
#[cfg(feature = "tch")]
mod torch;
mod transfer;

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AvgPool2dConfig, MaxPool2dConfig};
use burn::nn::{BatchNorm, PaddingConfig2d};
use burn::tensor::Tensor;

pub use adam::{Adam, AdamState, AdamUpdate};
#[cfg(feature = "tch")]
pub use device::observed;
pub use device::{
    GpuArithmetic, is_gpu, is_idle, is_native, peak_bytes, release_memory, set_gpu_arithmetic,
};
pub use graph::{Graph, GraphError, GraphFamily, panic_message};
pub use images::{ImageMaker, Pictures, images, images_on_host};
pub use transfer::{
    MemoryFormat, address, copied, copied_as, flat, overwrite, upload, upload_int, write,
    write_int, zero_bytes,
};

/// Whose mean and variance a batch normalisation normalises by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// Those of the batch, which also move the running ones.
    Batch(Addresses),
    /// The running ones, which stay as they are.
    Running,
}

/// Where what a training step changes has its new values: parameters, moments and running statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// Where nobody else sees the old values, in their memory; else in memory of their own.
    #[default]
    Free,
    /// In the memory of the old ones, whoever sees it, so that a [`Graph`] of the step can be replayed. On
    /// LibTorch only.
    Fixed,
}

/// Version of the LibTorch that this program was built with.
pub const LIBTORCH_VERSION: Option<&str> = option_env!("QUARTET_LIBTORCH_VERSION");

/// Convolution of `[batch, channels, height, width]`, with bias where the module has one. The weights are
/// taken in the type of `x`; their gradients are in the weights' own.
#[must_use]
pub fn conv2d(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "tch")]
    if is_native(&x.device()) {
        return torch::conv2d(conv, x);
    }
    conv.forward(x)
}

/// [`conv2d`], then ReLU.
#[must_use]
pub fn conv2d_relu(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "tch")]
    if combines(conv, &x) {
        return torch::conv2d_combined(conv, x, None, 1.0, true);
    }
    relu(conv2d(conv, x))
}

/// `x + scale * conv(branch)`, both of the same shape, then ReLU if `with_relu`.
#[must_use]
pub fn conv2d_add_scaled(
    conv: &Conv2d,
    branch: Tensor<4>,
    x: Tensor<4>,
    scale: f64,
    with_relu: bool,
) -> Tensor<4> {
    #[cfg(feature = "tch")]
    if combines(conv, &branch) {
        return torch::conv2d_combined(conv, branch, Some(x), scale, with_relu);
    }
    let y = add_scaled(x, conv2d(conv, branch), scale);
    match with_relu {
        true => relu(y),
        false => y,
    }
}

/// Whether what follows a convolution is worth an operation with it: on GPUs, which wait for memory. (On CPUs
/// the bias is oneDNN's to add.)
#[cfg(feature = "tch")]
fn combines(conv: &Conv2d, x: &Tensor<4>) -> bool {
    conv.bias.is_some() && is_gpu(&x.device())
}

/// Batch normalisation over all axes but the second of `[batch, channels, ..]`, then plus `residual`, then
/// ReLU if `relu`.
///
/// [`Statistics::Batch`] needs an autodiff device; a frozen layer ([`burn::module::Module::freeze`]) takes
/// the running statistics all the same. The running variance is that of biased variances.
#[must_use]
pub fn batch_norm<const D: usize>(
    norm: &BatchNorm,
    x: Tensor<D>,
    residual: Option<Tensor<D>>,
    relu: bool,
    statistics: Statistics,
) -> Tensor<D> {
    #[cfg(feature = "tch")]
    if is_native(&x.device()) {
        return torch::batch_norm(norm, x, None, residual, relu, statistics);
    }
    fallback::batch_norm(norm, x, residual, relu, statistics)
}

/// [`conv2d`], then [`batch_norm`].
///
/// On GPUs the bias is in the running mean alone where the batch's statistics are taken, as the batch's mean
/// takes it away again; its gradient is 0, which elsewhere is what rounding makes of 0.
#[must_use]
pub fn conv2d_batch_norm(
    conv: &Conv2d,
    norm: &BatchNorm,
    x: Tensor<4>,
    residual: Option<Tensor<4>>,
    relu: bool,
    statistics: Statistics,
) -> Tensor<4> {
    #[cfg(feature = "tch")]
    if combines(conv, &x) {
        return torch::conv2d_batch_norm(conv, norm, x, residual, relu, statistics);
    }
    batch_norm(norm, conv2d(conv, x), residual, relu, statistics)
}

/// max(x, 0).
#[must_use]
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "tch")]
    if is_native(&x.device()) {
        return torch::relu(x);
    }
    burn::tensor::activation::relu(x)
}

/// `x + scale * branch`, both of the same shape.
#[must_use]
pub fn add_scaled(x: Tensor<4>, branch: Tensor<4>, scale: f64) -> Tensor<4> {
    #[cfg(feature = "tch")]
    if is_native(&x.device()) {
        return torch::add_scaled(x, branch, scale);
    }
    x + branch.mul_scalar(scale)
}

/// Square max-pool with stride 2.
///
/// Burn's own everywhere: on LibTorch it has LibTorch's gradient, as [`avg_pool_3x3_same`] has.
#[must_use]
pub fn max_pool(x: Tensor<4>, kernel: usize, padding: PaddingConfig2d) -> Tensor<4> {
    MaxPool2dConfig::new([kernel, kernel])
        .with_strides([2, 2])
        .with_padding(padding)
        .init()
        .forward(x)
}

/// 3x3 mean with stride 1 and "same" padding, which counts as zeros or not at all.
#[must_use]
pub fn avg_pool_3x3_same(x: Tensor<4>, count_padding: bool) -> Tensor<4> {
    AvgPool2dConfig::new([3, 3])
        .with_strides([1, 1])
        .with_padding(PaddingConfig2d::Same)
        .with_count_include_pad(count_padding)
        .init()
        .forward(x)
}

/// Mean over height and width: `[batch, channels, height, width]` to `[batch, channels]`.
#[must_use]
pub fn global_avg_pool(x: Tensor<4>) -> Tensor<2> {
    #[cfg(feature = "tch")]
    if is_native(&x.device()) {
        return torch::global_avg_pool(x);
    }
    fallback::global_avg_pool(x)
}

/// Mean cross-entropy in nats, `[1]`, of logits and distributions, both `[batch, classes]`. On LibTorch the
/// distributions get no gradient.
#[must_use]
pub fn cross_entropy(logits: Tensor<2>, distributions: Tensor<2>) -> Tensor<1> {
    #[cfg(feature = "tch")]
    if is_native(&logits.device()) {
        return torch::cross_entropy(logits, distributions);
    }
    fallback::cross_entropy(logits, distributions)
}

/// The same values in the layout in which this crate's operations are fastest: on LibTorch the channels are
/// the innermost axis in memory, elsewhere nothing changes. The operations keep the layout.
#[must_use]
pub fn channels_last(x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "tch")]
    if is_native(&x.device()) {
        return torch::channels_last(x, false);
    }
    x
}

/// [`channels_last`] in bfloat16.
///
/// # Panics
/// Where [`is_native`] is false.
#[must_use]
pub fn channels_last_bf16(x: Tensor<4>) -> Tensor<4> {
    assert!(
        is_native(&x.device()),
        "mixed precision is computed by LibTorch only"
    );
    #[cfg(feature = "tch")]
    return torch::channels_last(x, true);
    #[cfg(not(feature = "tch"))]
    x
}

/// The module with its parameters of four axes, the weights of convolutions, in bfloat16 as [`conv2d`] takes
/// them: all are converted in one call. Their gradients, which are in bfloat16, too, are those of the
/// module's own weights.
///
/// # Panics
/// Where [`is_native`] is false.
#[must_use]
pub fn bf16_weights<M: Module>(module: M) -> M {
    #[cfg(feature = "tch")]
    return torch::bf16_weights(module);
    #[cfg(not(feature = "tch"))]
    unreachable!(
        "mixed precision is computed by LibTorch only: {} parameters",
        module.num_params()
    );
}
