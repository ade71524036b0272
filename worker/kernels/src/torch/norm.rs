//! Batch normalisation with what follows it: a residual, ReLU.

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

use super::ffi::{self, Normalised};
use super::residual::Residual;
use super::{done, fresh, graph};
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

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct Saved {
    x: TchTensor,
    gamma: TchTensor,
    by: SavedStatistics,
    /// The output, if ReLU made it.
    output: Option<TchTensor>,
    epsilon: f64,
    /// Beta and whether there was ReLU, if our own kernels computed it; then the output is there if there was
    /// a residual, too.
    fused: Option<(TchTensor, bool)>,
}

#[derive(Clone, Debug)]
enum SavedStatistics {
    /// Mean and inverse standard deviation.
    Batch(TchTensor, TchTensor),
    /// Mean and variance.
    Running(TchTensor, TchTensor),
}

/// Adds the residual and applies ReLU to a fresh tensor.
fn followed(mut y: tch::Tensor, residual: Option<TchTensor>, relu: bool) -> TchTensor {
    if let Some(residual) = residual {
        y = y.g_add_(&residual.tensor);
    }
    fresh(if relu { y.relu_() } else { y })
}

struct Trained {
    y: TchTensor,
    mean: TchTensor,
    variance: TchTensor,
}

fn forward_batch(
    x: TchTensor,
    residual: Option<TchTensor>,
    layer: Layer<LibTorch>,
    settings: Settings,
    save: bool,
) -> (Trained, Option<Saved>) {
    let residual_tensor = residual.as_ref().map(|residual| &residual.tensor);
    if ffi::fused_suits(&x.tensor, residual_tensor) {
        return forward_fused(x, residual, layer, settings, save);
    }
    let Layer {
        gamma,
        beta,
        mean,
        variance,
    } = layer;
    // With momentum 1 the running statistics become those of the batch alone.
    let (batch_mean, batch_variance) = (mean.tensor.zeros_like(), variance.tensor.zeros_like());
    let (y, saved_mean, deviation) = x.tensor.native_batch_norm(
        Some(&gamma.tensor),
        Some(&beta.tensor),
        Some(&batch_mean),
        Some(&batch_variance),
        true,
        1.0,
        settings.epsilon,
    );
    let n = x.tensor.numel() as f64 / x.tensor.size()[1] as f64;
    // LibTorch's is unbiased: of one value it is 0 / 0.
    let biased = match n > 1.0 {
        true => batch_variance * ((n - 1.0) / n),
        false => batch_variance.zeros_like(),
    };
    let moved = |mut running: TchTensor, batch: tch::Tensor| match settings.addresses {
        Addresses::Fixed => {
            let mut kept = running.tensor.g_mul_scalar_(1.0 - settings.momentum);
            let _ = kept.g_add_(&(batch * settings.momentum));
            running
        }
        Addresses::Free => {
            let kept = running.tensor * (1.0 - settings.momentum);
            fresh(kept + batch * settings.momentum)
        }
    };
    let y = followed(y, residual, settings.relu);
    let saved = save.then(|| Saved {
        x,
        gamma,
        by: SavedStatistics::Batch(fresh(saved_mean), fresh(deviation)),
        output: settings.relu.then(|| y.clone()),
        epsilon: settings.epsilon,
        fused: None,
    });
    let trained = Trained {
        y,
        mean: moved(mean, batch_mean),
        variance: moved(variance, biased),
    };
    (trained, saved)
}

/// [`forward_batch`] by kernels of our own.
fn forward_fused(
    x: TchTensor,
    residual: Option<TchTensor>,
    layer: Layer<LibTorch>,
    settings: Settings,
    save: bool,
) -> (Trained, Option<Saved>) {
    let Layer { gamma, beta, .. } = layer;
    let [mut mean, mut variance] =
        [layer.mean, layer.variance].map(|running| match settings.addresses {
            Addresses::Fixed => running,
            Addresses::Free => fresh(running.tensor.copy()),
        });
    let [y, batch_mean, deviation] = done(ffi::fused_norm(
        &x.tensor,
        residual.as_ref().map(|residual| &residual.tensor),
        [&gamma.tensor, &beta.tensor],
        [&mut mean.tensor, &mut variance.tensor],
        [settings.momentum, settings.epsilon],
        settings.relu,
    ))
    .map(fresh);
    let saved = save.then(|| Saved {
        x,
        gamma,
        by: SavedStatistics::Batch(batch_mean, deviation),
        output: (settings.relu && residual.is_some()).then(|| y.clone()),
        epsilon: settings.epsilon,
        fused: Some((beta, settings.relu)),
    });
    (Trained { y, mean, variance }, saved)
}

fn forward_running(
    x: TchTensor,
    residual: Option<TchTensor>,
    layer: Layer<LibTorch>,
    settings: Settings,
    save: bool,
) -> (TchTensor, Option<Saved>) {
    let Layer {
        gamma,
        beta,
        mean,
        variance,
    } = layer;
    let (y, ..) = x.tensor.native_batch_norm(
        Some(&gamma.tensor),
        Some(&beta.tensor),
        Some(&mean.tensor),
        Some(&variance.tensor),
        false,
        0.0,
        settings.epsilon,
    );
    let y = followed(y, residual, settings.relu);
    let saved = save.then(|| Saved {
        x,
        gamma,
        by: SavedStatistics::Running(mean, variance),
        output: settings.relu.then(|| y.clone()),
        epsilon: settings.epsilon,
        fused: None,
    });
    (y, saved)
}

/// Gradients of input, gamma, beta and residual.
fn gradients(saved: Saved, gradient: TchTensor, want: [bool; 4]) -> [Option<TchTensor>; 4] {
    let Saved {
        x,
        gamma,
        by,
        output,
        epsilon,
        fused,
    } = saved;
    if let (Some((beta, relu)), SavedStatistics::Batch(mean, deviation)) = (&fused, &by) {
        let output = output.as_ref().map(|output| &output.tensor);
        let layer = [&gamma, beta, mean, deviation].map(|tensor| &tensor.tensor);
        let found = ffi::fused_norm_backward(&gradient.tensor, &x.tensor, output, layer, *relu);
        let [x, gamma, beta, residual] = done(found);
        // What ReLU lets through is new; without it, the residual's gradient is the output's.
        let residual = match output.is_some() {
            true => residual.map(fresh),
            false => Some(gradient),
        };
        return [x.map(fresh), gamma.map(fresh), beta.map(fresh), residual];
    }
    let gradient = match output {
        // tch has them the other way round than their names say.
        Some(output) => fresh(output.tensor.threshold_backward(&gradient.tensor, 0)),
        None => gradient,
    };
    let by = match &by {
        SavedStatistics::Batch(mean, deviation) => {
            Normalised::Batch(&mean.tensor, &deviation.tensor)
        }
        SavedStatistics::Running(mean, variance) => {
            Normalised::Running(&mean.tensor, &variance.tensor)
        }
    };
    let [want_x, want_gamma, want_beta, want_residual] = want;
    let [x, gamma, beta] = done(ffi::batch_norm_backward(
        &gradient.tensor,
        &x.tensor,
        &gamma.tensor,
        by,
        epsilon,
        [want_x, want_gamma, want_beta],
    ));
    let residual = want_residual.then_some(gradient);
    [x.map(fresh), gamma.map(fresh), beta.map(fresh), residual]
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
