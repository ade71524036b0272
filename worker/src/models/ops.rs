//! The operations of the networks, each a free function over burn's own modules.
//!
//! All models go through these, so that a faster kernel put here serves every one of them. Tensors are
//! `[batch, channels, height, width]` unless said otherwise.

use burn::nn::BatchNorm;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AvgPool2dConfig, MaxPool2dConfig};
use burn::nn::{Linear, PaddingConfig2d};
use burn::tensor::{Tensor, activation, module};

/// What a forward pass is for. It decides which statistics batch normalisation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Statistics of the batch, which also move the running ones.
    Training,
    /// Running statistics, which stay as they are.
    Inference,
}

/// Convolution, with bias where the module has one.
pub(super) fn conv(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    conv.forward(x)
}

/// Dense layer: `[batch, in]` to `[batch, out]`.
pub(super) fn linear(linear: &Linear, x: Tensor<2>) -> Tensor<2> {
    linear.forward(x)
}

/// max(x, 0).
pub(super) fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activation::relu(x)
}

/// Batch normalisation over all axes but the second: `[batch, channels, ..]`.
///
/// The phase decides, not the device: burn's own `forward` takes the batch's statistics whenever its
/// input is on an autodiff device. A frozen layer ([`burn::module::Module::freeze`]) infers in both phases.
pub(super) fn bn<const D: usize>(norm: &BatchNorm, x: Tensor<D>, phase: Phase) -> Tensor<D> {
    match phase {
        Phase::Training => {
            let y = norm.forward(x);
            // `RunningState` holds an update back until the next one, and a record is made without it.
            norm.running_mean.value_sync();
            norm.running_var.value_sync();
            y
        }
        Phase::Inference => module::batch_norm(
            x,
            norm.gamma.val(),
            norm.beta.val(),
            norm.running_mean.value_sync(),
            norm.running_var.value_sync(),
            norm.epsilon,
        ),
    }
}

/// Batch normalisation, then ReLU.
pub(super) fn bn_relu<const D: usize>(norm: &BatchNorm, x: Tensor<D>, phase: Phase) -> Tensor<D> {
    relu(bn(norm, x, phase))
}

/// Batch normalisation, plus `residual`, then ReLU.
pub(super) fn bn_add_relu(
    norm: &BatchNorm,
    x: Tensor<4>,
    residual: Tensor<4>,
    phase: Phase,
) -> Tensor<4> {
    relu(bn(norm, x, phase) + residual)
}

/// `x + scale * branch`.
pub(super) fn add_scaled(x: Tensor<4>, branch: Tensor<4>, scale: f64) -> Tensor<4> {
    x + branch.mul_scalar(scale)
}

/// Branches joined along the channels.
pub(super) fn concat(branches: Vec<Tensor<4>>) -> Tensor<4> {
    Tensor::cat(branches, 1)
}

/// 2x2 max-pool with stride 2, a last odd row or column dropped.
pub(super) fn max_pool_2x2(x: Tensor<4>) -> Tensor<4> {
    MaxPool2dConfig::new([2, 2])
        .with_strides([2, 2])
        .init()
        .forward(x)
}

/// 3x3 max-pool with stride 2 and this padding.
pub(super) fn max_pool_3x3(x: Tensor<4>, padding: PaddingConfig2d) -> Tensor<4> {
    MaxPool2dConfig::new([3, 3])
        .with_strides([2, 2])
        .with_padding(padding)
        .init()
        .forward(x)
}

/// 3x3 mean with stride 1 and "same" padding, which counts as zeros or not at all.
pub(super) fn avg_pool_3x3_same(x: Tensor<4>, count_padding: bool) -> Tensor<4> {
    AvgPool2dConfig::new([3, 3])
        .with_strides([1, 1])
        .with_padding(PaddingConfig2d::Same)
        .with_count_include_pad(count_padding)
        .init()
        .forward(x)
}

/// Mean over height and width: `[batch, channels]`.
pub(super) fn global_avg_pool(x: Tensor<4>) -> Tensor<2> {
    let x: Tensor<3> = x.flatten(2, 3); // [batch, channels, height * width]
    x.mean_dim(2).squeeze_dim(2)
}
