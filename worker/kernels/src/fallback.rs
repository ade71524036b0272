//! The operations out of burn's own.

use burn::nn::BatchNorm;
use burn::tensor::{Tensor, activation, module};

use crate::{AdamState, AdamUpdate, Statistics};

pub(crate) fn batch_norm<const D: usize>(
    norm: &BatchNorm,
    x: Tensor<D>,
    residual: Option<Tensor<D>>,
    relu: bool,
    statistics: Statistics,
) -> Tensor<D> {
    // Burn's own `forward` takes the batch's statistics whenever its input is on an autodiff device.
    let y = match statistics {
        Statistics::Batch(_) => {
            let y = norm.forward(x);
            // `RunningState` holds an update back until the next one, and a record is made without it.
            norm.running_mean.value_sync();
            norm.running_var.value_sync();
            y
        }
        Statistics::Running if !x.is_autodiff() => scaled(norm, x),
        Statistics::Running => module::batch_norm(
            x,
            norm.gamma.val(),
            norm.beta.val(),
            norm.running_mean.value_sync(),
            norm.running_var.value_sync(),
            norm.epsilon,
        ),
    };
    let y = match residual {
        Some(residual) => y + residual,
        None => y,
    };
    match relu {
        true => activation::relu(y),
        false => y,
    }
}

/// By the running statistics with one factor and one summand for each channel, in half of the passes over `x`
/// that burn's own takes.
fn scaled<const D: usize>(norm: &BatchNorm, x: Tensor<D>) -> Tensor<D> {
    let variance = norm.running_var.value_sync();
    let factor = norm.gamma.val() / variance.add_scalar(norm.epsilon).sqrt();
    let summand = norm.beta.val() - norm.running_mean.value_sync() * factor.clone();
    let mut shape = [1; D];
    shape[1] = x.dims()[1];
    x * factor.reshape(shape) + summand.reshape(shape)
}

pub(crate) fn global_avg_pool(x: Tensor<4>) -> Tensor<2> {
    let x: Tensor<3> = x.flatten(2, 3); // [batch, channels, height * width]
    x.mean_dim(2).squeeze_dim(2)
}

pub(crate) fn cross_entropy(logits: Tensor<2>, distributions: Tensor<2>) -> Tensor<1> {
    let terms = activation::log_softmax(logits, 1) * distributions;
    terms.sum_dim(1).mean().neg()
}

pub(crate) fn adam<const D: usize>(
    AdamState { value, m, v }: AdamState<D>,
    gradient: Tensor<D>,
    update: AdamUpdate,
) -> AdamState<D> {
    let rate = update.rate();
    let AdamUpdate {
        beta1,
        beta2,
        epsilon,
        ..
    } = update;
    let dims = value.dims();
    let gradient: Tensor<1> = gradient.reshape([-1]);
    let m = m.mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1);
    let v = v.mul_scalar(beta2) + (gradient.clone() * gradient).mul_scalar(1.0 - beta2);
    let change = m.clone().mul_scalar(rate) / v.clone().sqrt().add_scalar(epsilon);
    AdamState {
        value: value - change.reshape(dims),
        m,
        v,
    }
}
