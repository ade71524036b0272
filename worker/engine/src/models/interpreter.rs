//! What forward passes are written in: [`Eager`] computes them, and `onnx` writes them down.

use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Linear, PaddingConfig2d};
use burn::tensor::Tensor;
use quartet_kernels::Addresses;

use super::head::DropoutMasks;
use super::ops::{self, Mode};

/// The operations of the networks over values of its own.
pub(crate) trait Interpreter {
    /// `[batch, channels, height, width]`.
    type Map: Clone;
    /// `[batch, features]`.
    type Row;

    /// Convolution, with bias where the module has one.
    fn conv(&self, conv: &Conv2d, x: Self::Map) -> Self::Map;
    /// max(x, 0).
    fn relu(&self, x: Self::Map) -> Self::Map;
    /// Batch normalisation.
    fn bn(&self, norm: &BatchNorm, x: Self::Map) -> Self::Map;
    /// Convolution, then batch normalisation.
    fn conv_bn(&self, conv: &Conv2d, norm: &BatchNorm, x: Self::Map) -> Self::Map {
        self.bn(norm, self.conv(conv, x))
    }
    /// Convolution, then batch normalisation, then ReLU.
    fn conv_bn_relu(&self, conv: &Conv2d, norm: &BatchNorm, x: Self::Map) -> Self::Map {
        self.relu(self.conv_bn(conv, norm, x))
    }
    /// Convolution, then batch normalisation, plus `residual`, then ReLU.
    fn conv_bn_add_relu(
        &self,
        conv: &Conv2d,
        norm: &BatchNorm,
        x: Self::Map,
        residual: Self::Map,
    ) -> Self::Map;
    /// `x + scale * branch`.
    fn add_scaled(&self, x: Self::Map, branch: Self::Map, scale: f64) -> Self::Map;
    /// Convolution, then ReLU.
    fn conv_relu(&self, conv: &Conv2d, x: Self::Map) -> Self::Map {
        self.relu(self.conv(conv, x))
    }
    /// `x` plus `scale` times the convolution of `branch`, then ReLU if `relu`.
    fn add_conv(
        &self,
        x: Self::Map,
        conv: &Conv2d,
        branch: Self::Map,
        scale: f64,
        relu: bool,
    ) -> Self::Map {
        let y = self.add_scaled(x, self.conv(conv, branch), scale);
        if relu { self.relu(y) } else { y }
    }
    /// Branches joined along the channels.
    fn concat(&self, branches: Vec<Self::Map>) -> Self::Map;
    /// 2x2 max-pool with stride 2, a last odd row or column dropped.
    fn max_pool_2x2(&self, x: Self::Map) -> Self::Map;
    /// 3x3 max-pool with stride 2 and this padding, which is explicit or none.
    fn max_pool_3x3(&self, x: Self::Map, padding: PaddingConfig2d) -> Self::Map;
    /// 3x3 mean with stride 1 and "same" padding, which counts as zeros or not at all.
    fn avg_pool_3x3_same(&self, x: Self::Map, count_padding: bool) -> Self::Map;
    /// Mean over height and width.
    fn global_avg_pool(&self, x: Self::Map) -> Self::Row;
    /// Dropout at this place of the head, from 0.
    fn dropout(&self, place: usize, x: Self::Row) -> Self::Row;
    /// Dense layer, then ReLU.
    fn dense_relu(&self, linear: &Linear, x: Self::Row) -> Self::Row;
    /// Dense layer.
    fn dense(&self, linear: &Linear, x: Self::Row) -> Self::Row;
    /// Batch normalisation of features.
    fn bn_row(&self, norm: &BatchNorm, x: Self::Row) -> Self::Row;
}

/// Computes on the tensors' device.
#[derive(Debug)]
pub(super) struct Eager {
    mode: Mode,
    dropout: DropoutMasks,
}

impl Eager {
    /// For inference, without dropout.
    pub(super) fn inference() -> Self {
        Self {
            mode: Mode::Inference,
            dropout: DropoutMasks::none(),
        }
    }

    /// For training, with running statistics that have these addresses.
    pub(super) fn training(dropout: DropoutMasks, addresses: Addresses) -> Self {
        Self {
            mode: Mode::Training(addresses),
            dropout,
        }
    }
}

impl Interpreter for Eager {
    type Map = Tensor<4>;
    type Row = Tensor<2>;

    fn conv(&self, conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
        ops::conv(conv, x)
    }

    fn relu(&self, x: Tensor<4>) -> Tensor<4> {
        ops::relu(x)
    }

    fn bn(&self, norm: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
        ops::bn(norm, x, self.mode)
    }

    fn conv_bn(&self, conv: &Conv2d, norm: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
        ops::conv_bn(conv, norm, x, None, false, self.mode)
    }

    fn conv_bn_relu(&self, conv: &Conv2d, norm: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
        ops::conv_bn(conv, norm, x, None, true, self.mode)
    }

    fn conv_bn_add_relu(
        &self,
        conv: &Conv2d,
        norm: &BatchNorm,
        x: Tensor<4>,
        residual: Tensor<4>,
    ) -> Tensor<4> {
        ops::conv_bn(conv, norm, x, Some(residual), true, self.mode)
    }

    fn add_scaled(&self, x: Tensor<4>, branch: Tensor<4>, scale: f64) -> Tensor<4> {
        ops::add_scaled(x, branch, scale)
    }

    fn conv_relu(&self, conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
        ops::conv_relu(conv, x)
    }

    fn add_conv(
        &self,
        x: Tensor<4>,
        conv: &Conv2d,
        branch: Tensor<4>,
        scale: f64,
        relu: bool,
    ) -> Tensor<4> {
        ops::add_conv(x, conv, branch, scale, relu)
    }

    fn concat(&self, branches: Vec<Tensor<4>>) -> Tensor<4> {
        ops::concat(branches)
    }

    fn max_pool_2x2(&self, x: Tensor<4>) -> Tensor<4> {
        ops::max_pool_2x2(x)
    }

    fn max_pool_3x3(&self, x: Tensor<4>, padding: PaddingConfig2d) -> Tensor<4> {
        ops::max_pool_3x3(x, padding)
    }

    fn avg_pool_3x3_same(&self, x: Tensor<4>, count_padding: bool) -> Tensor<4> {
        ops::avg_pool_3x3_same(x, count_padding)
    }

    fn global_avg_pool(&self, x: Tensor<4>) -> Tensor<2> {
        ops::global_avg_pool(x)
    }

    fn dropout(&self, place: usize, x: Tensor<2>) -> Tensor<2> {
        match &self.dropout.masks {
            Some(masks) => x * masks[place].clone(),
            None => x,
        }
    }

    fn dense_relu(&self, linear: &Linear, x: Tensor<2>) -> Tensor<2> {
        ops::relu(ops::linear(linear, x))
    }

    fn dense(&self, linear: &Linear, x: Tensor<2>) -> Tensor<2> {
        ops::linear(linear, x)
    }

    fn bn_row(&self, norm: &BatchNorm, x: Tensor<2>) -> Tensor<2> {
        ops::bn(norm, x, self.mode)
    }
}
