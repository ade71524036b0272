//! The forward and the backward pass of a batch normalisation.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;

use super::super::added::Added;
use super::super::ffi::{self, Normalised};
use super::super::{done, fresh};
use super::{Layer, Settings};
use crate::Addresses;

/// What is normalised, and what is added: the bias before, the residual after it.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) x: TchTensor,
    pub(super) bias: Option<TchTensor>,
    pub(super) residual: Option<TchTensor>,
}

impl Input {
    pub(super) fn of(x: TchTensor, bias: Added<LibTorch>, residual: Added<LibTorch>) -> Self {
        Self {
            x,
            bias: bias.tensor(),
            residual: residual.tensor(),
        }
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    x: TchTensor,
    bias: Option<TchTensor>,
    has_residual: bool,
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

impl SavedStatistics {
    fn is_of_batch(&self) -> bool {
        matches!(self, Self::Batch(..))
    }
}

/// Adds the residual and applies ReLU to a fresh tensor.
fn followed(mut y: tch::Tensor, residual: Option<TchTensor>, relu: bool) -> TchTensor {
    if let Some(residual) = residual {
        y = y.g_add_(&residual.tensor);
    }
    fresh(if relu { y.relu_() } else { y })
}

pub(super) struct Trained {
    pub(super) y: TchTensor,
    pub(super) mean: TchTensor,
    pub(super) variance: TchTensor,
}

pub(super) fn forward_batch(
    input: Input,
    layer: Layer<LibTorch>,
    settings: Settings,
    save: bool,
) -> (Trained, Option<Saved>) {
    let residual = input.residual.as_ref().map(|residual| &residual.tensor);
    if ffi::fused_suits(&input.x.tensor, residual) {
        return forward_fused(input, layer, settings, save);
    }
    let Input { x, bias, residual } = input;
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
    // The batch's mean takes a bias away.
    let batch_mean = match &bias {
        Some(bias) => batch_mean + &bias.tensor,
        None => batch_mean,
    };
    let has_residual = residual.is_some();
    let y = followed(y, residual, settings.relu);
    let saved = save.then(|| Saved {
        x,
        bias,
        has_residual,
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
    Input { x, bias, residual }: Input,
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
        unbiased(&x, bias.as_ref()),
        residual.as_ref().map(|residual| &residual.tensor),
        [&gamma.tensor, &beta.tensor],
        [&mut mean.tensor, &mut variance.tensor],
        [settings.momentum, settings.epsilon],
        settings.relu,
    ))
    .map(fresh);
    let saved = save.then(|| Saved {
        x,
        bias,
        has_residual: residual.is_some(),
        gamma,
        by: SavedStatistics::Batch(batch_mean, deviation),
        output: (settings.relu && residual.is_some()).then(|| y.clone()),
        epsilon: settings.epsilon,
        fused: Some((beta, settings.relu)),
    });
    (Trained { y, mean, variance }, saved)
}

fn unbiased<'a>(x: &'a TchTensor, bias: Option<&'a TchTensor>) -> ffi::Unbiased<'a> {
    ffi::Unbiased {
        x: &x.tensor,
        bias: bias.map(|bias| &bias.tensor),
    }
}

pub(super) fn forward_running(
    Input { x, bias, residual }: Input,
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
    // Instead of a pass over `x`.
    let mean = match &bias {
        Some(bias) => fresh(mean.tensor - &bias.tensor),
        None => mean,
    };
    let (y, ..) = x.tensor.native_batch_norm(
        Some(&gamma.tensor),
        Some(&beta.tensor),
        Some(&mean.tensor),
        Some(&variance.tensor),
        false,
        0.0,
        settings.epsilon,
    );
    let has_residual = residual.is_some();
    let y = followed(y, residual, settings.relu);
    let saved = save.then(|| Saved {
        x,
        bias,
        has_residual,
        gamma,
        by: SavedStatistics::Running(mean, variance),
        output: settings.relu.then(|| y.clone()),
        epsilon: settings.epsilon,
        fused: None,
    });
    (y, saved)
}

/// Gradients of input, gamma, beta, and residual and bias, as far as there are such.
pub(super) fn gradients(
    saved: Saved,
    gradient: TchTensor,
    want: [bool; 5],
) -> [Option<TchTensor>; 5] {
    let has_residual = saved.has_residual;
    let [x, gamma, beta, last, other] = want;
    let (residual, bias) = match has_residual {
        true => (last, other),
        false => (false, last),
    };
    let [x, gamma, beta, residual, bias] =
        all_gradients(saved, gradient, [x, gamma, beta, residual, bias]);
    match has_residual {
        true => [x, gamma, beta, residual, bias],
        false => [x, gamma, beta, bias, None],
    }
}

/// Gradients of input, gamma, beta, residual and bias.
fn all_gradients(saved: Saved, gradient: TchTensor, want: [bool; 5]) -> [Option<TchTensor>; 5] {
    let Saved {
        x,
        bias,
        has_residual: _,
        gamma,
        by,
        output,
        epsilon,
        fused,
    } = saved;
    if let (Some((beta, relu)), SavedStatistics::Batch(mean, deviation)) = (&fused, &by) {
        let output = output.as_ref().map(|output| &output.tensor);
        let layer = [&gamma, beta, mean, deviation].map(|tensor| &tensor.tensor);
        let x = unbiased(&x, bias.as_ref());
        let found = ffi::fused_norm_backward(&gradient.tensor, x, output, layer, *relu);
        let [x, gamma, beta, residual, bias] = done(found);
        // What ReLU lets through is new; without it, the residual's gradient is the output's.
        let residual = match output.is_some() {
            true => residual.map(fresh),
            false => Some(gradient),
        };
        let [x, gamma, beta, bias] = [x, gamma, beta, bias].map(|found| found.map(fresh));
        return [x, gamma, beta, residual, bias];
    }
    let gradient = match output {
        // tch has them the other way round than their names say.
        Some(output) => fresh(output.tensor.threshold_backward(&gradient.tensor, 0)),
        None => gradient,
    };
    let normalised = match &by {
        SavedStatistics::Batch(mean, deviation) => {
            Normalised::Batch(&mean.tensor, &deviation.tensor)
        }
        SavedStatistics::Running(mean, variance) => {
            Normalised::Running(&mean.tensor, &variance.tensor)
        }
    };
    let [want_x, want_gamma, want_beta, want_residual, want_bias] = want;
    let [x, of_gamma, of_beta] = done(ffi::batch_norm_backward(
        &gradient.tensor,
        &x.tensor,
        &gamma.tensor,
        normalised,
        epsilon,
        [
            want_x,
            want_gamma,
            want_beta || (want_bias && !by.is_of_batch()),
        ],
    ));
    let of_bias = bias.filter(|_| want_bias).map(|bias| match &by {
        // The batch's mean takes it away.
        SavedStatistics::Batch(..) => bias.tensor.zeros_like(),
        SavedStatistics::Running(_, variance) => {
            let deviation = (&variance.tensor + epsilon).rsqrt();
            of_beta.as_ref().expect("it was wanted") * &gamma.tensor * deviation
        }
    });
    let residual = want_residual.then_some(gradient);
    let [x, gamma, beta, bias] = [x, of_gamma, of_beta, of_bias].map(|found| found.map(fresh));
    [x, gamma, beta, residual, bias]
}
