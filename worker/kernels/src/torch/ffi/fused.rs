//! Kernels of our own on GPUs.

use std::ptr::{null, null_mut};

use tch::Tensor;

use super::{
    TorchError, Window, call, one, own, quartet_conv2d_combined, quartet_fused_norm,
    quartet_fused_norm_backward, quartet_fused_suits, quartet_part,
};

/// Whether kernels of our own normalise `x`, and add `residual`.
pub(in crate::torch) fn fused_suits(x: &Tensor, residual: Option<&Tensor>) -> bool {
    let residual = residual.map_or(null(), |residual| residual.as_ptr());
    // SAFETY: the tensors live through the call, which only reads them; the residual may be null.
    unsafe { quartet_fused_suits(x.as_ptr(), residual) }
}

/// What a batch normalisation takes: the result of a convolution, short of the bias, if that has one.
#[derive(Clone, Copy, Debug)]
pub(in crate::torch) struct Unbiased<'a> {
    pub(in crate::torch) x: &'a Tensor,
    pub(in crate::torch) bias: Option<&'a Tensor>,
}

/// A batch normalisation by kernels of our own, where [`fused_suits`]: output, and mean and inverse standard
/// deviation of `x`. The running mean and variance are moved; the bias is in the mean.
pub(in crate::torch) fn fused_norm(
    Unbiased { x, bias }: Unbiased<'_>,
    residual: Option<&Tensor>,
    [gamma, beta]: [&Tensor; 2],
    [mean, variance]: [&mut Tensor; 2],
    [momentum, epsilon]: [f64; 2],
    relu: bool,
) -> Result<[Tensor; 3], TorchError> {
    let layer = [gamma, beta, &*mean, &*variance].map(Tensor::as_ptr);
    let mut out = [null_mut(); 3];
    call("batch normalisation", |message| {
        // SAFETY: the tensors and the array live through the call, which writes to those that are borrowed
        // mutably; bias and residual may be null; `out` has room for three.
        unsafe {
            quartet_fused_norm(
                x.as_ptr(),
                bias.map_or(null(), |bias| bias.as_ptr()),
                residual.map_or(null(), |residual| residual.as_ptr()),
                layer.as_ptr(),
                momentum,
                epsilon,
                relu,
                out.as_mut_ptr(),
                message,
            )
        }
    })?;
    Ok(out.map(|tensor| own(tensor).expect("the shim stores three tensors when it succeeds")))
}

/// Gradients of input, gamma, beta, residual and bias of [`fused_norm`]. `layer` is gamma, beta, and the mean
/// and inverse standard deviation; `output` is there if there were a residual and ReLU.
pub(in crate::torch) fn fused_norm_backward(
    gradient: &Tensor,
    Unbiased { x, bias }: Unbiased<'_>,
    output: Option<&Tensor>,
    layer: [&Tensor; 4],
    relu: bool,
) -> Result<[Option<Tensor>; 5], TorchError> {
    let layer = layer.map(|tensor| tensor.as_ptr());
    let mut out = [null_mut(); 5];
    call("gradient of a batch normalisation", |message| {
        // SAFETY: the tensors and the array live through the call, which only reads them; bias and output may
        // be null; `out` has room for five.
        unsafe {
            quartet_fused_norm_backward(
                gradient.as_ptr(),
                x.as_ptr(),
                bias.map_or(null(), |bias| bias.as_ptr()),
                output.map_or(null(), |output| output.as_ptr()),
                layer.as_ptr(),
                relu,
                out.as_mut_ptr(),
                message,
            )
        }
    })?;
    Ok(out.map(own))
}

/// What follows a convolution: `residual + scale * (it + bias)`, without the residual if there is none, then
/// ReLU.
#[derive(Clone, Copy, Debug)]
pub(in crate::torch) struct Tail {
    pub(in crate::torch) scale: f64,
    pub(in crate::torch) relu: bool,
}

/// A convolution with what follows it.
pub(in crate::torch) fn conv2d_combined(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    residual: Option<&Tensor>,
    window: &Window,
    tail: Tail,
) -> Result<Tensor, TorchError> {
    one("convolution", |out, message| {
        // SAFETY: the tensors and the pairs live through the call, which only reads them; the residual may be
        // null; `out` has room for one.
        unsafe {
            quartet_conv2d_combined(
                x.as_ptr(),
                weight.as_ptr(),
                bias.as_ptr(),
                residual.map_or(null(), |residual| residual.as_ptr()),
                window.stride.as_ptr(),
                window.padding.as_ptr(),
                window.dilation.as_ptr(),
                window.groups,
                tail.scale,
                tail.relu,
                out,
                message,
            )
        }
    })
}

/// The gradients of what follows a convolution: of it, of the bias and of the residual, if there was one.
/// `output` is there if there was ReLU.
pub(in crate::torch) fn part(
    gradient: &Tensor,
    bias: &Tensor,
    output: Option<&Tensor>,
    residual: bool,
    scale: f64,
) -> Result<[Tensor; 3], TorchError> {
    let mut out = [null_mut(); 3];
    call("gradient of a sum", |message| {
        // SAFETY: the tensors live through the call, which only reads them; the output may be null; `out` has
        // room for three.
        unsafe {
            quartet_part(
                gradient.as_ptr(),
                bias.as_ptr(),
                output.map_or(null(), |output| output.as_ptr()),
                residual,
                scale,
                out.as_mut_ptr(),
                message,
            )
        }
    })?;
    Ok(out.map(|tensor| own(tensor).expect("the shim stores three tensors when it succeeds")))
}
