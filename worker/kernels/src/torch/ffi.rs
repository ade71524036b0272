//! The functions of `shim/shim.cpp`, made safe.

#![expect(
    unsafe_code,
    reason = "calls into C++ are unsafe; these are all there are in Quartet"
)]

mod fused;
mod gpu;
mod images;
mod norm;
#[cfg(test)]
pub(super) mod tests;
mod weights;

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};
use std::ptr::{null, null_mut};

use tch::Tensor;
use torch_sys::C_tensor;

pub(super) use fused::{
    Tail, Unbiased, conv2d_combined, fused_norm, fused_norm_backward, fused_suits, part,
};
pub(super) use gpu::{
    Family, Graph, is_idle, peak_bytes, release_memory, set_gpu_arithmetic, to_gpu,
};
pub(super) use images::{Pictures, images, makes_images};
pub(super) use norm::{Normalised, batch_norm_backward};
pub(super) use weights::{TorchAdam, adam, bf16_weights, flat};

type Ref = *const C_tensor;

/// The shim's `graph::Graph`.
#[repr(C)]
struct Opaque {
    _private: [u8; 0],
}

/// What LibTorch has to say about a call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("LibTorch: {operation}: {message}")]
pub(super) struct TorchError {
    operation: &'static str,
    message: String,
}

unsafe extern "C" {
    fn quartet_free(message: *mut c_char);
    fn quartet_conv2d(
        x: Ref,
        weight: Ref,
        bias: Ref,
        stride: *const i64,
        padding: *const i64,
        dilation: *const i64,
        groups: i64,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_conv2d_backward(
        gradient: Ref,
        x: Ref,
        weight: Ref,
        stride: *const i64,
        padding: *const i64,
        dilation: *const i64,
        groups: i64,
        want: *const bool,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_batch_norm_backward(
        gradient: Ref,
        x: Ref,
        gamma: Ref,
        statistics: *const Ref,
        train: bool,
        epsilon: f64,
        want: *const bool,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_fused_suits(x: Ref, residual: Ref) -> bool;
    fn quartet_fused_norm(
        x: Ref,
        bias: Ref,
        residual: Ref,
        layer: *const Ref,
        momentum: f64,
        epsilon: f64,
        relu: bool,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_fused_norm_backward(
        gradient: Ref,
        x: Ref,
        bias: Ref,
        output: Ref,
        layer: *const Ref,
        relu: bool,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_conv2d_combined(
        x: Ref,
        weight: Ref,
        bias: Ref,
        residual: Ref,
        stride: *const i64,
        padding: *const i64,
        dilation: *const i64,
        groups: i64,
        scale: f64,
        relu: bool,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_part(
        gradient: Ref,
        bias: Ref,
        output: Ref,
        residual: bool,
        scale: f64,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_makes_images(gpu: i64) -> bool;
    fn quartet_images(
        pixels: Ref,
        indices: Ref,
        parameters: Ref,
        channels: i64,
        size: i64,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_convert(
        x: Ref,
        like: Ref,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_channels_last(
        x: Ref,
        bfloat16: bool,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_add_scaled(
        x: Ref,
        y: Ref,
        scale: f64,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_flat(x: Ref, out: *mut *mut C_tensor, message: *mut *mut c_char) -> i32;
    fn quartet_bf16_weights(
        count: usize,
        weights: *const Ref,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_adam(
        count: usize,
        values: *const Ref,
        gradients: *const Ref,
        m: *const Ref,
        v: *const Ref,
        rate: Ref,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_write(target: Ref, x: Ref, message: *mut *mut c_char) -> i32;
    fn quartet_to_gpu(x: Ref, gpu: i64, out: *mut *mut C_tensor, message: *mut *mut c_char) -> i32;
    fn quartet_graph_available() -> bool;
    fn quartet_graph_family(out: *mut u64, message: *mut *mut c_char) -> i32;
    fn quartet_graph_begin(
        gpu: i64,
        family: *const u64,
        out: *mut *mut Opaque,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_graph_end(graph: *mut Opaque, message: *mut *mut c_char) -> i32;
    fn quartet_graph_replay(graph: *mut Opaque, message: *mut *mut c_char) -> i32;
    fn quartet_graph_free(graph: *mut Opaque);
    fn quartet_observe_begin(message: *mut *mut c_char) -> i32;
    fn quartet_observe_end(lines: *mut *mut c_char, message: *mut *mut c_char) -> i32;
    fn quartet_is_idle(gpu: i64, out: *mut bool, message: *mut *mut c_char) -> i32;
    fn quartet_peak_bytes(gpu: i64, out: *mut i64, message: *mut *mut c_char) -> i32;
    fn quartet_release_gpu_memory(gpu: i64, out: *mut i64, message: *mut *mut c_char) -> i32;
    fn quartet_set_gpu_arithmetic(
        tf32: bool,
        deterministic: bool,
        message: *mut *mut c_char,
    ) -> i32;
}

/// Stride, padding, dilation (each of height and width) and groups of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) stride: [i64; 2],
    pub(super) padding: [i64; 2],
    pub(super) dilation: [i64; 2],
    pub(super) groups: i64,
}

/// `x` `[n, in, height, width]` convolved with `weight` `[out, in / groups, height, width]`, and the bias
/// `[out]` added.
pub(super) fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: &Window,
) -> Result<Tensor, TorchError> {
    one("convolution", |out, message| {
        // SAFETY: the tensors and the pairs live through the call, which only reads them; `bias` may be null;
        // `out` has room for one.
        unsafe {
            quartet_conv2d(
                x.as_ptr(),
                weight.as_ptr(),
                bias.map_or(null(), |bias| bias.as_ptr()),
                window.stride.as_ptr(),
                window.padding.as_ptr(),
                window.dilation.as_ptr(),
                window.groups,
                out,
                message,
            )
        }
    })
}

/// Gradients of input, weight and bias, as far as they are wanted.
pub(super) fn conv2d_backward(
    gradient: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    window: &Window,
    want: [bool; 3],
) -> Result<[Option<Tensor>; 3], TorchError> {
    let mut out = [null_mut(); 3];
    call("gradient of a convolution", |message| {
        // SAFETY: the tensors, the pairs and `want` live through the call, which only reads them; `out` has
        // room for three.
        unsafe {
            quartet_conv2d_backward(
                gradient.as_ptr(),
                x.as_ptr(),
                weight.as_ptr(),
                window.stride.as_ptr(),
                window.padding.as_ptr(),
                window.dilation.as_ptr(),
                window.groups,
                want.as_ptr(),
                out.as_mut_ptr(),
                message,
            )
        }
    })?;
    Ok(out.map(own))
}

/// `x` in the memory format and type of `like`. Where it is so already, the result shares the memory of `x`.
pub(super) fn convert(x: &Tensor, like: &Tensor) -> Result<Tensor, TorchError> {
    one("conversion of a layout", |out, message| {
        // SAFETY: the tensors live through the call, which only reads them; `out` has room for one.
        unsafe { quartet_convert(x.as_ptr(), like.as_ptr(), out, message) }
    })
}

/// `x` with its channels innermost, in bfloat16 or in its own type. Where it is so already, the result shares
/// the memory of `x`.
pub(super) fn channels_last(x: &Tensor, bfloat16: bool) -> Result<Tensor, TorchError> {
    one("conversion to channels-last", |out, message| {
        // SAFETY: the tensor lives through the call, which only reads it; `out` has room for one.
        unsafe { quartet_channels_last(x.as_ptr(), bfloat16, out, message) }
    })
}

/// `x + scale * y`.
pub(super) fn add_scaled(x: &Tensor, y: &Tensor, scale: f64) -> Result<Tensor, TorchError> {
    one("sum", |out, message| {
        // SAFETY: the tensors live through the call, which only reads them; `out` has room for one.
        unsafe { quartet_add_scaled(x.as_ptr(), y.as_ptr(), scale, out, message) }
    })
}

/// Copies `x`, a tensor of the host's, into `target`, which may be on a GPU: then nobody waits for the copy.
pub(super) fn write(target: &mut Tensor, x: &Tensor) -> Result<(), TorchError> {
    call("copy into a tensor", |message| {
        // SAFETY: the tensors live through the call; the one that it writes to is borrowed mutably.
        unsafe { quartet_write(target.as_ptr(), x.as_ptr(), message) }
    })
}

/// How often `body` has called each of LibTorch's operations, by name, on this thread.
pub(super) fn observed<T>(
    body: impl FnOnce() -> T,
) -> Result<(T, BTreeMap<String, u64>), TorchError> {
    call("begin of an observation", |message| {
        // SAFETY: the call takes nothing but a place for its message.
        unsafe { quartet_observe_begin(message) }
    })?;
    let value = body();
    let mut lines = null_mut();
    call("end of an observation", |message| {
        // SAFETY: `lines` has room for one string.
        unsafe { quartet_observe_end(&mut lines, message) }
    })?;
    let lines = text(lines).unwrap_or_default();
    let counts = lines.lines().filter_map(|line| {
        let (name, times) = line.rsplit_once(' ')?;
        Some((name.to_owned(), times.parse().ok()?))
    });
    Ok((value, counts.collect()))
}

/// A call that stores one tensor.
fn one(
    operation: &'static str,
    body: impl FnOnce(*mut *mut C_tensor, *mut *mut c_char) -> i32,
) -> Result<Tensor, TorchError> {
    let mut out = null_mut();
    call(operation, |message| body(&mut out, message))?;
    Ok(own(out).expect("the shim stores a tensor when it succeeds"))
}

/// Takes over a tensor that the shim has stored.
fn own(tensor: *mut C_tensor) -> Option<Tensor> {
    // SAFETY: the shim allocated it as torch-sys does (`new at::Tensor`), and gives it to the caller alone.
    (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor) })
}

/// Turns a shim's status and message into a result.
fn call(
    operation: &'static str,
    body: impl FnOnce(*mut *mut c_char) -> i32,
) -> Result<(), TorchError> {
    let mut message = null_mut();
    if body(&mut message) == 0 {
        return Ok(());
    }
    Err(TorchError {
        operation,
        message: text(message).unwrap_or_else(|| "no memory".to_owned()),
    })
}

/// Takes over a string of the shim's, if there is one.
fn text(string: *mut c_char) -> Option<String> {
    if string.is_null() {
        return None;
    }
    // SAFETY: a string that is not null ends in 0 and is the caller's.
    let text = unsafe { CStr::from_ptr(string) };
    let text = text.to_string_lossy().into_owned();
    // SAFETY: the string was allocated by the shim and is not used from here on.
    unsafe { quartet_free(string) };
    Some(text)
}
