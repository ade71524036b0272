//! A device that has no memory left.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use burn::tensor::{Device, Tensor};
use quartet_kernels::panic_message;

/// What LibTorch and NVIDIA's libraries say when there is no memory left on a GPU.
const SIGNS: [&str; 4] = [
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
];

/// Whether a failure is one for want of memory on the device.
pub(crate) fn is_out_of_memory(message: &str) -> bool {
    SIGNS.iter().any(|sign| message.contains(sign))
}

/// What `body` returns, or what LibTorch says where the device has no memory for it. That is a panic, as all
/// failures inside of burn are; any other goes on.
///
/// # Errors
/// There is no memory for it.
pub fn within_memory<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| {
        let message = panic_message(&*panic);
        if !is_out_of_memory(message) {
            resume_unwind(panic);
        }
        message.to_owned()
    })
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

/// For people: what there was no memory for, and how much was free, if LibTorch's `message` says so.
pub(crate) fn description(message: &str, what: impl Display) -> String {
    let free = free(message).map_or_else(String::new, |free| format!(", of which {free} was free"));
    format!("out of memory on the GPU{free}: {what}")
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
        let expected = "out of memory on the GPU, of which 1.06 GiB was free: an image";
        assert_eq!(description(MESSAGE, "an image"), expected);
        let other = description("CUDNN_STATUS_ALLOC_FAILED", "an image");
        assert_eq!(other, "out of memory on the GPU: an image");
    }

    #[test]
    fn only_a_lack_of_memory_is_caught() {
        assert_eq!(within_memory(|| 3), Ok(3));
        let fails = || -> u8 { panic!("{MESSAGE}") };
        assert_eq!(within_memory(fails), Err(MESSAGE.to_owned()));
        let other = || within_memory(|| panic!("channels do not match"));
        let panic = catch_unwind(other).unwrap_err();
        assert_eq!(panic_message(&*panic), "channels do not match");
    }
}
