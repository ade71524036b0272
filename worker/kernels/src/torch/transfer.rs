//! From the host to a GPU.

use std::collections::BTreeMap;

use burn::backend::DispatchDevice;
use burn::backend::LibTorch;
use burn::backend::libtorch::{LibTorchDevice, TchTensor};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{done, ffi, fresh, is_torch};
use crate::{GpuArithmetic, MemoryFormat};

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
    Tensor::from_primitive::<LibTorch>(moved(&on_host::<D>(data), gpu))
}

pub(crate) fn upload_int<const D: usize>(data: TensorData, gpu: usize) -> Tensor<D, Int> {
    Tensor::from_primitive::<LibTorch>(moved(&int_on_host::<D>(data), gpu))
}

pub(crate) fn write<const D: usize>(target: &Tensor<D>, data: TensorData) {
    let mut target = primitive(target.clone().inner());
    done(ffi::write(&mut target.tensor, &on_host::<D>(data).tensor));
}

pub(crate) fn write_int<const D: usize>(target: &Tensor<D, Int>, data: TensorData) {
    let target = target.clone().try_into_primitive::<LibTorch>();
    let mut target = target.expect("it is LibTorch's").tensor;
    done(ffi::write(&mut target, &int_on_host::<D>(data).tensor));
}

pub(crate) fn zero_bytes<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    let shape = shape.map(|size| size as i64);
    assert!(is_torch(device), "{device:?} is not LibTorch's");
    let device = gpu(device).map_or(tch::Device::Cpu, tch::Device::Cuda);
    let zeros = tch::Tensor::zeros(shape, (tch::Kind::Uint8, device));
    Tensor::from_primitive::<LibTorch>(fresh(zeros))
}

pub(crate) fn overwrite<const D: usize>(target: &Tensor<D>, source: &Tensor<D>) {
    let [mut target, source] = [target, source].map(|tensor| primitive(tensor.clone().inner()));
    assert_eq!(target.tensor.size(), source.tensor.size());
    target.tensor.copy_(&source.tensor);
}

pub(super) fn on_host<const D: usize>(data: TensorData) -> TchTensor {
    let dtype = data.dtype();
    primitive(Tensor::<D>::from_data(data, (&Device::libtorch(), dtype)))
}

pub(super) fn int_on_host<const D: usize>(data: TensorData) -> TchTensor {
    let dtype = data.dtype();
    let host = Tensor::<D, Int>::from_data(data, (&Device::libtorch(), dtype));
    let host = host.try_into_primitive::<LibTorch>();
    host.expect("it was made by LibTorch")
}

pub(crate) fn copied<const D: usize>(tensor: Tensor<D>, format: MemoryFormat) -> Tensor<D> {
    let x = primitive(tensor.inner()).tensor;
    let last = D == 4 && format == MemoryFormat::ChannelsLast;
    let ordered = match last {
        true => x.permute([0, 2, 3, 1]).contiguous(),
        false => x.contiguous(),
    };
    let own = match ordered.data_ptr() == x.data_ptr() {
        true => ordered.copy(),
        false => ordered,
    };
    let own = match last {
        true => own.permute([0, 3, 1, 2]),
        false => own,
    };
    Tensor::from_primitive::<LibTorch>(fresh(own))
}

pub(crate) fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let TchTensor { tensor, storage } = primitive(tensor.inner());
    let flat = TchTensor::from_existing(done(ffi::flat(&tensor)), storage);
    Tensor::from_primitive::<LibTorch>(flat)
}

pub(crate) fn address<const D: usize>(tensor: &Tensor<D>) -> usize {
    primitive(tensor.clone().inner()).tensor.data_ptr() as usize
}

/// Whether a GPU has done all that this thread has told it.
pub(crate) fn is_idle(gpu: usize) -> bool {
    done(ffi::is_idle(gpu))
}

/// How often `body` has called each of LibTorch's operations.
pub(crate) fn observed<T>(body: impl FnOnce() -> T) -> (T, BTreeMap<String, u64>) {
    done(ffi::observed(body))
}

/// The most bytes of tensors on a GPU since the last call.
pub(crate) fn peak_bytes(gpu: usize) -> u64 {
    done(ffi::peak_bytes(gpu))
}

/// Gives the memory of GPUs that no tensor and no graph has back to the system.
pub(crate) fn release_memory(gpu: usize) {
    // A GPU that has failed fails here, too, which was told already; and one that has done nothing.
    let _ = ffi::release_memory(gpu);
}

pub(super) fn primitive<const D: usize>(tensor: Tensor<D>) -> TchTensor {
    let tensor = tensor.try_into_primitive::<LibTorch>();
    tensor.expect("it is LibTorch's, without autodiff")
}

fn moved(host: &TchTensor, gpu: usize) -> TchTensor {
    fresh(done(ffi::to_gpu(&host.tensor, gpu)))
}
