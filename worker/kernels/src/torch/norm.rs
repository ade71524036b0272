//! Batch normalisation with what follows it: a residual, ReLU.

mod passes;
#[cfg(test)]
mod tests;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::libtorch::TchTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, Dispatch, ExtensionType, LibTorch, backend_extension,
};
use burn::module::Param;
use burn::nn::BatchNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;

use self::passes::{Input, Saved, forward_batch, forward_running, gradients};
use super::added::Added;
use super::conv::conv2d_unbiased;
use super::graph;
use crate::{Addresses, Statistics};

/// What is the same for all channels.
#[derive(Clone, Copy, Debug)]
struct Settings {
    /// The part of the batch in new running statistics.
    momentum: f64,
    epsilon: f64,
    relu: bool,
    /// Of the running statistics.
    addresses: Addresses,
}

/// The four tensors `[channels]` of a layer.
#[derive(ExtensionType)]
struct Layer<B: Backend> {
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    mean: FloatTensor<B>,
    variance: FloatTensor<B>,
}

#[backend_extension(LibTorch, Autodiff)]
trait Norm: Backend {
    /// By the batch's statistics; returns output, new running mean and new running variance. `bias` is what
    /// `x` is short of.
    fn norm_batch(
        x: FloatTensor<Self>,
        #[extension_type] bias: Added<Self>,
        #[extension_type] residual: Added<Self>,
        #[extension_type] layer: Layer<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// By the running statistics.
    fn norm_running(
        x: FloatTensor<Self>,
        #[extension_type] bias: Added<Self>,
        #[extension_type] residual: Added<Self>,
        #[extension_type] layer: Layer<Self>,
        settings: Settings,
    ) -> FloatTensor<Self>;
}

/// Of `x` plus `bias`, which is of the channels, if there is one.
pub(crate) fn batch_norm<const D: usize>(
    norm: &BatchNorm,
    x: Tensor<D>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
    relu: bool,
    statistics: Statistics,
) -> Tensor<D> {
    let layer = Layer {
        gamma: norm.gamma.val().into_dispatch(),
        beta: norm.beta.val().into_dispatch(),
        mean: norm.running_mean.value_sync().into_dispatch(),
        variance: norm.running_var.value_sync().into_dispatch(),
    };
    let addresses = match statistics {
        Statistics::Batch(addresses) => addresses,
        Statistics::Running => Addresses::Free,
    };
    let settings = Settings {
        momentum: norm.momentum,
        epsilon: norm.epsilon,
        relu,
        addresses,
    };
    let train = statistics != Statistics::Running && x.is_autodiff() && norm.training.is_enabled();
    let (bias, residual) = (Added::of(bias), Added::of(residual));
    let x = x.into_dispatch();
    if !train {
        return Tensor::from_dispatch(Dispatch::norm_running(x, bias, residual, layer, settings));
    }
    let (y, mean, variance) = Dispatch::norm_batch(x, bias, residual, layer, settings);
    if addresses == Addresses::Fixed {
        // They were written in place.
        return Tensor::from_dispatch(y);
    }
    norm.running_mean
        .update(Tensor::from_dispatch(mean).detach());
    norm.running_var
        .update(Tensor::from_dispatch(variance).detach());
    // `RunningState` holds an update back until the next one, and a record is made without it.
    norm.running_mean.value_sync();
    norm.running_var.value_sync();
    Tensor::from_dispatch(y)
}

/// [`conv2d`](super::conv2d), then [`batch_norm`]: the bias takes no passes over images of its own.
pub(crate) fn conv2d_batch_norm(
    conv: &Conv2d,
    norm: &BatchNorm,
    x: Tensor<4>,
    residual: Option<Tensor<4>>,
    relu: bool,
    statistics: Statistics,
) -> Tensor<4> {
    let bias = conv.bias.as_ref().map(Param::val);
    let x = conv2d_unbiased(conv, x);
    batch_norm(norm, x, bias, residual, relu, statistics)
}

impl Norm for LibTorch {
    fn norm_batch(
        x: TchTensor,
        bias: Added<Self>,
        residual: Added<Self>,
        layer: Layer<Self>,
        settings: Settings,
    ) -> (TchTensor, TchTensor, TchTensor) {
        let input = Input::of(x, bias, residual);
        let (trained, _) = forward_batch(input, layer, settings, false);
        (trained.y, trained.mean, trained.variance)
    }

    fn norm_running(
        x: TchTensor,
        bias: Added<Self>,
        residual: Added<Self>,
        layer: Layer<Self>,
        settings: Settings,
    ) -> TchTensor {
        forward_running(Input::of(x, bias, residual), layer, settings, false).0
    }
}

#[derive(Debug)]
struct Step;

impl<const N: usize> Backward<LibTorch, N> for Step {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, N>, found: &mut Gradients, _: &mut Checkpointer) {
        graph::backward(ops, found, gradients);
    }
}

/// A normalisation as a node whose parents are input, gamma, beta, and residual and bias, if there are any.
fn node<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<LibTorch, C>>,
    bias: Added<Autodiff<LibTorch, C>>,
    residual: Added<Autodiff<LibTorch, C>>,
    layer: Layer<Autodiff<LibTorch, C>>,
    compute: impl FnOnce(Input, Layer<LibTorch>, bool) -> (TchTensor, Option<Saved>),
) -> FloatTensor<Autodiff<LibTorch, C>> {
    let (x, x_node) = x.into_parts();
    let (gamma, gamma_node) = layer.gamma.into_parts();
    let (beta, beta_node) = layer.beta.into_parts();
    let layer = Layer {
        gamma,
        beta,
        mean: layer.mean.into_primitive(),
        variance: layer.variance.into_primitive(),
    };
    let (bias, bias_node) = bias.into_parts();
    let (residual, residual_node) = residual.into_parts();
    let input = Input { x, bias, residual };
    let compute = |save| compute(input, layer, save);
    match (residual_node, bias_node) {
        (None, None) => graph::node::<C, _, 3>(Step, [x_node, gamma_node, beta_node], compute),
        (Some(last), None) | (None, Some(last)) => {
            graph::node::<C, _, 4>(Step, [x_node, gamma_node, beta_node, last], compute)
        }
        (Some(residual), Some(bias)) => {
            let parents = [x_node, gamma_node, beta_node, residual, bias];
            graph::node::<C, _, 5>(Step, parents, compute)
        }
    }
}

impl<C: CheckpointStrategy> Norm for Autodiff<LibTorch, C> {
    fn norm_batch(
        x: FloatTensor<Self>,
        bias: Added<Self>,
        residual: Added<Self>,
        layer: Layer<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let mut statistics = None;
        let y = node(x, bias, residual, layer, |input, layer, save| {
            let (trained, saved) = forward_batch(input, layer, settings, save);
            statistics = Some((trained.mean, trained.variance));
            (trained.y, saved)
        });
        let (mean, variance) = statistics.expect("a node computes its output once");
        (y, Self::from_inner(mean), Self::from_inner(variance))
    }

    fn norm_running(
        x: FloatTensor<Self>,
        bias: Added<Self>,
        residual: Added<Self>,
        layer: Layer<Self>,
        settings: Settings,
    ) -> FloatTensor<Self> {
        node(x, bias, residual, layer, |input, layer, save| {
            forward_running(input, layer, settings, save)
        })
    }
}
