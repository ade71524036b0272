//! From the host to a device, and within it.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

#[cfg(feature = "tch")]
use crate::is_native;

/// Floats on a device that is without autodiff: of 64 bits where the data are, else of the device's type. The
/// host does not wait for the copy to a GPU of LibTorch's.
#[must_use]
pub fn upload<const D: usize>(data: TensorData, device: &Device) -> Tensor<D> {
    #[cfg(feature = "tch")]
    if let Some(gpu) = crate::torch::gpu(device) {
        return crate::torch::upload(data, gpu);
    }
    match data.dtype() {
        DType::F64 => Tensor::from_data(data, (device, DType::F64)),
        _ => Tensor::from_data(data, device),
    }
}

/// [`upload`] of integers.
#[must_use]
pub fn upload_int<const D: usize>(data: TensorData, device: &Device) -> Tensor<D, Int> {
    #[cfg(feature = "tch")]
    if let Some(gpu) = crate::torch::gpu(device) {
        return crate::torch::upload_int(data, gpu);
    }
    let dtype = data.dtype();
    Tensor::from_data(data, (device, dtype))
}

/// Zeros of bytes on a device of LibTorch's, for [`write_int`].
///
/// # Panics
/// Where [`is_native`](crate::is_native) is false.
#[must_use]
pub fn zero_bytes<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    #[cfg(feature = "tch")]
    return crate::torch::zero_bytes(shape, device);
    #[cfg(not(feature = "tch"))]
    unreachable!("{device:?} is not LibTorch's: {shape:?}");
}

/// Copies `data` into a tensor of LibTorch's, which keeps its address. The host does not wait for the copy.
///
/// # Panics
/// Where [`is_native`] is false, and if the shape is another one.
pub fn write<const D: usize>(target: &Tensor<D>, data: TensorData) {
    #[cfg(feature = "tch")]
    return crate::torch::write(target, data);
    #[cfg(not(feature = "tch"))]
    unreachable!("{target:?} is not LibTorch's: {data:?}");
}

/// [`write`] of integers.
///
/// # Panics
/// As [`write`].
pub fn write_int<const D: usize>(target: &Tensor<D, Int>, data: TensorData) {
    #[cfg(feature = "tch")]
    return crate::torch::write_int(target, data);
    #[cfg(not(feature = "tch"))]
    unreachable!("{target:?} is not LibTorch's: {data:?}");
}

/// Copies the values of `source` into a tensor of LibTorch's on the same device, which keeps its address.
///
/// # Panics
/// Where [`is_native`] is false, and if the shape is another one.
pub fn overwrite<const D: usize>(target: &Tensor<D>, source: &Tensor<D>) {
    #[cfg(feature = "tch")]
    return crate::torch::overwrite(target, source);
    #[cfg(not(feature = "tch"))]
    unreachable!("{target:?} is not LibTorch's: {source:?}");
}

/// In which order the elements of a tensor of four axes lie in memory, on LibTorch. All others are
/// contiguous.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryFormat {
    /// The last axis is the innermost one.
    #[default]
    Contiguous,
    /// The second axis is the innermost one, as in the weights that convolutions read.
    ChannelsLast,
}

/// The same values, contiguous, in memory of their own, on LibTorch; elsewhere no memory is written to that
/// is shared.
#[must_use]
pub fn copied<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    copied_as(tensor, MemoryFormat::Contiguous)
}

/// [`copied`] in this format.
#[must_use]
pub fn copied_as<const D: usize>(tensor: Tensor<D>, format: MemoryFormat) -> Tensor<D> {
    #[cfg(feature = "tch")]
    if is_native(&tensor.device()) {
        return crate::torch::copied(tensor, format);
    }
    let _ = format;
    tensor
}

/// All elements, `[elements]`, without autodiff: on LibTorch in the order in which they lie in memory, which
/// the result shares.
///
/// # Panics
/// On LibTorch if the tensor is a part of another one with gaps in between.
#[must_use]
pub fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    #[cfg(feature = "tch")]
    if is_native(&tensor.device()) {
        return crate::torch::flat(tensor);
    }
    tensor.inner().reshape([-1])
}

/// Where a tensor of LibTorch's, with or without autodiff, begins in the memory of its device.
#[must_use]
pub fn address<const D: usize>(tensor: &Tensor<D>) -> Option<usize> {
    #[cfg(feature = "tch")]
    if is_native(&tensor.device()) {
        return Some(crate::torch::address(tensor));
    }
    let _ = tensor;
    None
}
