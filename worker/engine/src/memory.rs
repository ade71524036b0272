//! A device that has no memory left.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{Device, Tensor};

/// What LibTorch and NVIDIA's libraries say when there is no memory left on a GPU.
const SIGNS: [&str; 4] = [
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
];

/// Whether a failure is one for want of memory on the device.
#[must_use]
pub fn is_out_of_memory(message: &str) -> bool {
    SIGNS.iter().any(|sign| message.contains(sign))
}

/// Frees what forward passes on this device have saved that came to no backward pass, as those for which
/// there was no memory: burn does so after the next backward pass of any.
pub fn release_forward_passes(device: &Device) {
    let pass = || {
        let x = Tensor::<1>::zeros([1], &device.clone().autodiff()).require_grad();
        drop(x.mul_scalar(2.0).backward());
    };
    // Where there is no memory even for that.
    let _ = catch_unwind(AssertUnwindSafe(pass));
}

/// `, of which .. was free`, if LibTorch says how much.
pub(crate) fn was_free(message: &str) -> String {
    free(message).map_or_else(String::new, |free| format!(", of which {free} was free"))
}

/// How much LibTorch says was free.
fn free(message: &str) -> Option<&str> {
    let (_, after) = message.split_once("of which ")?;
    let (free, _) = after.split_once(" is free")?;
    (free.len() < 20).then_some(free)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const MESSAGE: &str = concat!(
        "LibTorch: convolution: CUDA out of memory. Tried to allocate 2.44 GiB. GPU 0 has a total capacity ",
        "of 79.18 GiB of which 1.06 GiB is free. Including non-PyTorch memory, this process has 78.11 GiB ",
        "memory in use.",
    );

    #[test]
    fn a_failure_for_want_of_memory_says_what_was_free() {
        assert!(is_out_of_memory(MESSAGE));
        let other = "LibTorch: convolution: channels do not match";
        assert!(!is_out_of_memory(other));
        assert_eq!(was_free(MESSAGE), ", of which 1.06 GiB was free");
        assert_eq!(was_free("CUDNN_STATUS_ALLOC_FAILED"), "");
    }
}
