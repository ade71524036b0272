//! ReLU, sums, the global mean, and the conversion to channels-last.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::libtorch::TchTensor;
use burn::backend::ops::ActivationOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, LibTorch, backend_extension};
use burn::tensor::Tensor;
use tch::Kind;

use super::{converted, done, ffi, fresh, graph};

#[backend_extension(LibTorch, Autodiff)]
trait Point: Backend {
    fn native_relu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    fn native_add_scaled(
        x: FloatTensor<Self>,
        branch: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self>;

    fn native_global_mean(x: FloatTensor<Self>) -> FloatTensor<Self>;

    fn native_channels_last(x: FloatTensor<Self>, bfloat16: bool) -> FloatTensor<Self>;
}

pub(crate) fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::native_relu(x.into_dispatch()))
}

pub(crate) fn add_scaled(x: Tensor<4>, branch: Tensor<4>, scale: f64) -> Tensor<4> {
    let (x, branch) = (x.into_dispatch(), branch.into_dispatch());
    Tensor::from_dispatch(Dispatch::native_add_scaled(x, branch, scale))
}

pub(crate) fn global_avg_pool(x: Tensor<4>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::native_global_mean(x.into_dispatch()))
}

pub(crate) fn channels_last(x: Tensor<4>, bfloat16: bool) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::native_channels_last(x.into_dispatch(), bfloat16))
}

fn sum(x: &TchTensor, branch: &TchTensor, scale: f64) -> TchTensor {
    fresh(done(ffi::add_scaled(&x.tensor, &branch.tensor, scale)))
}

fn mean(x: &TchTensor) -> TchTensor {
    fresh(x.tensor.mean_dim([2i64, 3].as_slice(), false, None::<Kind>))
}

fn images(x: TchTensor, bfloat16: bool) -> TchTensor {
    let y = done(ffi::channels_last(&x.tensor, bfloat16));
    TchTensor::from_existing(y, x.storage)
}

impl Point for LibTorch {
    fn native_relu(x: TchTensor) -> TchTensor {
        Self::relu(x)
    }

    fn native_add_scaled(x: TchTensor, branch: TchTensor, scale: f64) -> TchTensor {
        sum(&x, &branch, scale)
    }

    fn native_global_mean(x: TchTensor) -> TchTensor {
        mean(&x)
    }

    fn native_channels_last(x: TchTensor, bfloat16: bool) -> TchTensor {
        images(x, bfloat16)
    }
}

#[derive(Debug)]
struct Relu;

impl Backward<LibTorch, 1> for Relu {
    /// The output.
    type State = TchTensor;

    fn backward(self, ops: Ops<TchTensor, 1>, found: &mut Gradients, _: &mut Checkpointer) {
        graph::backward(ops, found, |output, gradient, _: [bool; 1]| {
            // tch has them the other way round than their names say.
            [Some(fresh(
                output.tensor.threshold_backward(&gradient.tensor, 0),
            ))]
        });
    }
}

#[derive(Debug)]
struct AddScaled;

impl Backward<LibTorch, 2> for AddScaled {
    /// The scale.
    type State = f64;

    fn backward(self, ops: Ops<f64, 2>, found: &mut Gradients, _: &mut Checkpointer) {
        graph::backward(ops, found, |scale, gradient, want: [bool; 2]| {
            let branch = want[1].then(|| fresh(&gradient.tensor * scale));
            [Some(gradient), branch]
        });
    }
}

#[derive(Debug)]
struct GlobalMean;

impl Backward<LibTorch, 1> for GlobalMean {
    /// The input, for its shape and layout.
    type State = TchTensor;

    fn backward(self, ops: Ops<TchTensor, 1>, found: &mut Gradients, _: &mut Checkpointer) {
        graph::backward(ops, found, |x, gradient, _: [bool; 1]| {
            let size = x.tensor.size();
            let part = gradient.tensor / (size[2] * size[3]) as f64;
            let spread = part.unsqueeze(2).unsqueeze(3).expand(&size, false);
            [Some(fresh(done(ffi::convert(&spread, &x.tensor))))]
        });
    }
}

#[derive(Debug)]
struct ChannelsLast;

impl Backward<LibTorch, 1> for ChannelsLast {
    /// The input, for its type and layout.
    type State = TchTensor;

    fn backward(self, ops: Ops<TchTensor, 1>, found: &mut Gradients, _: &mut Checkpointer) {
        graph::backward(ops, found, |x, gradient, _: [bool; 1]| {
            [Some(converted(&gradient, &x.tensor))]
        });
    }
}

impl<C: CheckpointStrategy> Point for Autodiff<LibTorch, C> {
    fn native_relu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        graph::node::<C, _, 1>(Relu, [node], |save| {
            let y = LibTorch::relu(x);
            (y.clone(), save.then_some(y))
        })
    }

    fn native_add_scaled(
        x: FloatTensor<Self>,
        branch: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (branch, branch_node)) = (x.into_parts(), branch.into_parts());
        graph::node::<C, _, 2>(AddScaled, [x_node, branch_node], |_| {
            (sum(&x, &branch, scale), Some(scale))
        })
    }

    fn native_global_mean(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        graph::node::<C, _, 1>(GlobalMean, [node], |_| (mean(&x), Some(x)))
    }

    fn native_channels_last(x: FloatTensor<Self>, bfloat16: bool) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        graph::node::<C, _, 1>(ChannelsLast, [node], |_| {
            (images(x.clone(), bfloat16), Some(x))
        })
    }
}
