//! LibTorch's gradient of a batch normalisation.

use std::ptr::null_mut;

use tch::Tensor;

use super::{TorchError, call, own, quartet_batch_norm_backward};

/// By what a batch normalisation has normalised, each `[channels]`.
#[derive(Clone, Copy, Debug)]
pub(in crate::torch) enum Normalised<'a> {
    /// Mean and inverse standard deviation of the batch.
    Batch(&'a Tensor, &'a Tensor),
    /// Running mean and variance.
    Running(&'a Tensor, &'a Tensor),
}

/// Gradients of input, gamma and beta, as far as they are wanted.
pub(in crate::torch) fn batch_norm_backward(
    gradient: &Tensor,
    x: &Tensor,
    gamma: &Tensor,
    by: Normalised<'_>,
    epsilon: f64,
    want: [bool; 3],
) -> Result<[Option<Tensor>; 3], TorchError> {
    let (train, first, second) = match by {
        Normalised::Batch(mean, deviation) => (true, mean, deviation),
        Normalised::Running(mean, variance) => (false, mean, variance),
    };
    let statistics = [first.as_ptr(), second.as_ptr()];
    let mut out = [null_mut(); 3];
    call("gradient of a batch normalisation", |message| {
        // SAFETY: the tensors and the arrays live through the call, which only reads them; `out` has room for
        // three.
        unsafe {
            quartet_batch_norm_backward(
                gradient.as_ptr(),
                x.as_ptr(),
                gamma.as_ptr(),
                statistics.as_ptr(),
                train,
                epsilon,
                want.as_ptr(),
                out.as_mut_ptr(),
                message,
            )
        }
    })?;
    Ok(out.map(own))
}
