//! Images out of bytes.

use std::ptr::null;

use tch::Tensor;

use super::{TorchError, one, quartet_images, quartet_makes_images};

/// What images are made of: see `shim/images.h`.
#[derive(Clone, Copy, Debug)]
pub(in crate::torch) struct Pictures<'a> {
    /// `[images, height, width * channels]`.
    pub(in crate::torch) pixels: &'a Tensor,
    /// `[N]`.
    pub(in crate::torch) indices: Option<&'a Tensor>,
    /// `[N, 5]`.
    pub(in crate::torch) parameters: Option<&'a Tensor>,
}

/// Whether [`images`] are made on a GPU, or on the CPU.
pub(in crate::torch) fn makes_images(gpu: Option<usize>) -> bool {
    let gpu = gpu.map_or(-1, |gpu| i64::try_from(gpu).expect("few GPUs"));
    // SAFETY: the call takes nothing but a number.
    unsafe { quartet_makes_images(gpu) }
}

/// `[N, 3, size, size]` in 0 to 1, whose channels are the innermost axis in memory.
pub(in crate::torch) fn images(
    of: Pictures<'_>,
    channels: usize,
    size: usize,
) -> Result<Tensor, TorchError> {
    let [channels, size] = [channels, size].map(|n| i64::try_from(n).expect("few pixels"));
    let [indices, parameters] =
        [of.indices, of.parameters].map(|tensor| tensor.map_or(null(), Tensor::as_ptr));
    one("images", |out, message| {
        // SAFETY: the tensors live through the call, which only reads them; two of them may be null; `out`
        // has room for one.
        unsafe {
            quartet_images(
                of.pixels.as_ptr(),
                indices,
                parameters,
                channels,
                size,
                out,
                message,
            )
        }
    })
}
