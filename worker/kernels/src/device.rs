//! What a device is, and how it does.

use burn::tensor::Device;

/// Gives memory that is not in use back to the system, and that of a GPU, for its other processes: what a
/// training took stays with the process until then, so that steps need not ask for it again.
pub fn release_memory(device: &Device) {
    #[cfg(feature = "tch")]
    if let Some(gpu) = crate::torch::gpu(device) {
        crate::torch::release_memory(gpu);
    }
    #[cfg(not(feature = "tch"))]
    let _ = device;
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    crate::memory::release();
}

/// Whether the operations on this device, with or without autodiff, are LibTorch's.
#[must_use]
pub fn is_native(device: &Device) -> bool {
    #[cfg(feature = "tch")]
    return crate::torch::is_torch(device);
    #[cfg(not(feature = "tch"))]
    {
        let _ = device;
        false
    }
}

/// Whether this is a GPU of LibTorch's.
#[must_use]
pub fn is_gpu(device: &Device) -> bool {
    #[cfg(feature = "tch")]
    return crate::torch::gpu(device).is_some();
    #[cfg(not(feature = "tch"))]
    {
        let _ = device;
        false
    }
}

/// Whether the device has done all that it was told, as CPUs always have; `None` where it cannot be asked.
#[must_use]
pub fn is_idle(device: &Device) -> Option<bool> {
    #[cfg(feature = "tch")]
    if let Some(gpu) = crate::torch::gpu(device) {
        return Some(crate::torch::is_idle(gpu));
    }
    match device.clone().inner().as_dispatch() {
        #[cfg(feature = "cuda")]
        burn::backend::DispatchDevice::Cube(_) => None,
        _ => Some(true),
    }
}

/// How often `body` has called each of LibTorch's operations on this thread, by name (such as `aten::add`):
/// for tests. Those that are parts of others count, too.
#[cfg(feature = "tch")]
pub fn observed<T>(body: impl FnOnce() -> T) -> (T, std::collections::BTreeMap<String, u64>) {
    crate::torch::observed(body)
}

/// The most bytes of tensors on a GPU of LibTorch's since the last call.
#[must_use]
pub fn peak_bytes(device: &Device) -> Option<u64> {
    #[cfg(feature = "tch")]
    return crate::torch::gpu(device).map(crate::torch::peak_bytes);
    #[cfg(not(feature = "tch"))]
    {
        let _ = device;
        None
    }
}

/// How LibTorch computes on GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuArithmetic {
    /// Whether the factors of products and convolutions of 32-bit floats are rounded to TensorFloat-32.
    pub tf32: bool,
    /// Whether the same is computed in the same way each time. Else the fastest algorithm for each shape is
    /// found by trying, and rounding may differ from one process to the next.
    pub deterministic: bool,
}

/// Has LibTorch compute in this way on the GPUs of this process from now on, if `device` is one of them.
pub fn set_gpu_arithmetic(device: &Device, arithmetic: GpuArithmetic) {
    #[cfg(feature = "tch")]
    if crate::torch::gpu(device).is_some() {
        crate::torch::set_gpu_arithmetic(arithmetic);
    }
    #[cfg(not(feature = "tch"))]
    let _ = (device, arithmetic);
}
