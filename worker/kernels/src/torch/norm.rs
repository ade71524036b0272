//! Batch normalisation with what follows it: a residual, ReLU.

mod passes;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::libtorch::TchTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, Dispatch, ExtensionType, LibTorch, backend_extension,
};
use burn::nn::BatchNorm;
use burn::tensor::Tensor;

use self::passes::{Saved, forward_batch, forward_running, gradients};
use super::graph;
use super::residual::Residual;
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
    /// By the batch's statistics; returns output, new running mean and new running variance.
    fn norm_batch(
        x: FloatTensor<Self>,
        #[extension_type] residual: Residual<Self>,
        #[extension_type] layer: Layer<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// By the running statistics.
    fn norm_running(
        x: FloatTensor<Self>,
        #[extension_type] residual: Residual<Self>,
        #[extension_type] layer: Layer<Self>,
        settings: Settings,
    ) -> FloatTensor<Self>;
}

pub(crate) fn batch_norm<const D: usize>(
    norm: &BatchNorm,
    x: Tensor<D>,
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
    let residual = Residual::of(residual);
    let x = x.into_dispatch();
    if !train {
        return Tensor::from_dispatch(Dispatch::norm_running(x, residual, layer, settings));
    }
    let (y, mean, variance) = Dispatch::norm_batch(x, residual, layer, settings);
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

impl Norm for LibTorch {
    fn norm_batch(
        x: TchTensor,
        residual: Residual<Self>,
        layer: Layer<Self>,
        settings: Settings,
    ) -> (TchTensor, TchTensor, TchTensor) {
        let (trained, _) = forward_batch(x, residual.tensor(), layer, settings, false);
        (trained.y, trained.mean, trained.variance)
    }

    fn norm_running(
        x: TchTensor,
        residual: Residual<Self>,
        layer: Layer<Self>,
        settings: Settings,
    ) -> TchTensor {
        forward_running(x, residual.tensor(), layer, settings, false).0
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

/// A normalisation as a node whose parents are input, gamma, beta and the residual, if there is one.
fn node<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<LibTorch, C>>,
    residual: Residual<Autodiff<LibTorch, C>>,
    layer: Layer<Autodiff<LibTorch, C>>,
    compute: impl FnOnce(
        TchTensor,
        Option<TchTensor>,
        Layer<LibTorch>,
        bool,
    ) -> (TchTensor, Option<Saved>),
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
    match residual {
        Residual::Nothing => {
            graph::node::<C, _, 3>(Step, [x_node, gamma_node, beta_node], |save| {
                compute(x, None, layer, save)
            })
        }
        Residual::Tensor(residual) => {
            let (residual, residual_node) = residual.into_parts();
            let parents = [x_node, gamma_node, beta_node, residual_node];
            graph::node::<C, _, 4>(Step, parents, |save| {
                compute(x, Some(residual), layer, save)
            })
        }
    }
}

impl<C: CheckpointStrategy> Norm for Autodiff<LibTorch, C> {
    fn norm_batch(
        x: FloatTensor<Self>,
        residual: Residual<Self>,
        layer: Layer<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let mut statistics = None;
        let y = node(x, residual, layer, |x, residual, layer, save| {
            let (trained, saved) = forward_batch(x, residual, layer, settings, save);
            statistics = Some((trained.mean, trained.variance));
            (trained.y, saved)
        });
        let (mean, variance) = statistics.expect("a node computes its output once");
        (y, Self::from_inner(mean), Self::from_inner(variance))
    }

    fn norm_running(
        x: FloatTensor<Self>,
        residual: Residual<Self>,
        layer: Layer<Self>,
        settings: Settings,
    ) -> FloatTensor<Self> {
        node(x, residual, layer, |x, residual, layer, save| {
            forward_running(x, residual, layer, settings, save)
        })
    }
}
