//! From the host to a GPU.

use burn::backend::DispatchDevice;
use burn::backend::LibTorch;
use burn::backend::libtorch::{LibTorchDevice, TchTensor};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::{done, ffi, fresh};
use crate::GpuArithmetic;

/// Settings for the GPUs that this process uses.
pub(crate) fn set_gpu_arithmetic(arithmetic: GpuArithmetic) {
    done(ffi::set_gpu_arithmetic(arithmetic));
}

/// Which GPU of LibTorch's a device is.
pub(crate) fn gpu(device: &Device) -> Option<usize> {
    match device.clone().inner().as_dispatch() {
        DispatchDevice::LibTorch(LibTorchDevice::Cuda(index)) => Some(*index),
        _ => None,
    }
}

pub(crate) fn upload<const D: usize>(data: TensorData, gpu: usize) -> Tensor<D> {
    let host = Tensor::<D>::from_data(data, &Device::libtorch());
    let host = host.try_into_primitive::<LibTorch>();
    Tensor::from_primitive::<LibTorch>(moved(host.expect("it was made by LibTorch"), gpu))
}

pub(crate) fn upload_bytes<const D: usize>(data: TensorData, gpu: usize) -> Tensor<D, Int> {
    let host = Tensor::<D, Int>::from_data(data, (&Device::libtorch(), DType::U8));
    let host = host.try_into_primitive::<LibTorch>();
    Tensor::from_primitive::<LibTorch>(moved(host.expect("it was made by LibTorch"), gpu))
}

fn moved(host: TchTensor, gpu: usize) -> TchTensor {
    fresh(done(ffi::to_gpu(&host.tensor, gpu)))
}
