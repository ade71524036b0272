//! The operations of the networks, each a free function over burn's own modules.
//!
//! All models go through these, and most of these through `quartet-kernels`, which has them native on
//! LibTorch. Tensors are `[batch, channels, height, width]` unless said otherwise.

use burn::module::Module;
use burn::nn::BatchNorm;
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, PaddingConfig2d};
use burn::tensor::{FloatDType, Tensor};
use quartet_kernels::{Addresses, Statistics, batch_norm};
use quartet_shared::spec::Precision;

/// What a forward pass is for. It decides which statistics batch normalisation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Statistics of the batch, which also move the running ones.
    Training(Addresses),
    /// Running statistics, which stay as they are.
    Inference,
}

impl Mode {
    fn statistics(self) -> Statistics {
        match self {
            Self::Training(addresses) => Statistics::Batch(addresses),
            Self::Inference => Statistics::Running,
        }
    }
}

/// Images as the backbone takes them: in the layout that is fastest, and in the type of its convolutions and
/// activations. The operations below keep both.
pub(super) fn images(x: Tensor<4>, precision: Precision) -> Tensor<4> {
    match precision {
        Precision::F32 | Precision::Tf32 => quartet_kernels::channels_last(x),
        Precision::Bf16 => quartet_kernels::channels_last_bf16(x),
    }
}

/// A backbone whose convolutions have their weights in the type of their images.
pub(super) fn bf16_weights<M: Module>(backbone: M) -> M {
    quartet_kernels::bf16_weights(backbone)
}

/// The backbone's output as the head takes it.
pub(super) fn feature_map(x: Tensor<4>, precision: Precision) -> Tensor<4> {
    match precision {
        Precision::F32 | Precision::Tf32 => x,
        Precision::Bf16 => x.cast(FloatDType::F32),
    }
}

/// Convolution, with bias where the module has one.
pub(super) fn conv(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    quartet_kernels::conv2d(conv, x)
}

/// Dense layer: `[batch, in]` to `[batch, out]`.
pub(super) fn linear(linear: &Linear, x: Tensor<2>) -> Tensor<2> {
    linear.forward(x)
}

/// max(x, 0).
pub(super) fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    quartet_kernels::relu(x)
}

/// Batch normalisation over all axes but the second: `[batch, channels, ..]`.
///
/// The mode decides, not the device: burn's own `forward` takes the batch's statistics whenever its
/// input is on an autodiff device. A frozen layer ([`burn::module::Module::freeze`]) infers in both modes.
pub(super) fn bn<const D: usize>(norm: &BatchNorm, x: Tensor<D>, mode: Mode) -> Tensor<D> {
    batch_norm(norm, x, None, false, mode.statistics())
}

/// Convolution, then batch normalisation, plus `residual` if there is one, then ReLU if `relu`.
pub(super) fn conv_bn(
    conv: &Conv2d,
    norm: &BatchNorm,
    x: Tensor<4>,
    residual: Option<Tensor<4>>,
    relu: bool,
    mode: Mode,
) -> Tensor<4> {
    quartet_kernels::conv2d_batch_norm(conv, norm, x, residual, relu, mode.statistics())
}

/// `x + scale * branch`.
pub(super) fn add_scaled(x: Tensor<4>, branch: Tensor<4>, scale: f64) -> Tensor<4> {
    quartet_kernels::add_scaled(x, branch, scale)
}

/// Convolution, then ReLU.
pub(super) fn conv_relu(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    quartet_kernels::conv2d_relu(conv, x)
}

/// `x` plus `scale` times the convolution of `branch`, then ReLU if `relu`.
pub(super) fn add_conv(
    x: Tensor<4>,
    conv: &Conv2d,
    branch: Tensor<4>,
    scale: f64,
    relu: bool,
) -> Tensor<4> {
    quartet_kernels::conv2d_add_scaled(conv, branch, x, scale, relu)
}

/// Branches joined along the channels.
pub(super) fn concat(branches: Vec<Tensor<4>>) -> Tensor<4> {
    Tensor::cat(branches, 1)
}

/// 2x2 max-pool with stride 2, a last odd row or column dropped.
pub(super) fn max_pool_2x2(x: Tensor<4>) -> Tensor<4> {
    quartet_kernels::max_pool(x, 2, PaddingConfig2d::Valid)
}

/// 3x3 max-pool with stride 2 and this padding.
pub(super) fn max_pool_3x3(x: Tensor<4>, padding: PaddingConfig2d) -> Tensor<4> {
    quartet_kernels::max_pool(x, 3, padding)
}

/// 3x3 mean with stride 1 and "same" padding, which counts as zeros or not at all.
pub(super) fn avg_pool_3x3_same(x: Tensor<4>, count_padding: bool) -> Tensor<4> {
    quartet_kernels::avg_pool_3x3_same(x, count_padding)
}

/// Mean over height and width: `[batch, channels]`.
pub(super) fn global_avg_pool(x: Tensor<4>) -> Tensor<2> {
    quartet_kernels::global_avg_pool(x)
}
