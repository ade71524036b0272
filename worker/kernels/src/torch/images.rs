//! Images out of bytes.

use burn::backend::LibTorch;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::transfer::{gpu, int_on_host, on_host, primitive};
use super::{done, ffi, fresh};
use crate::Pictures;

pub(crate) fn makes_images(device: &Device) -> bool {
    ffi::makes_images(gpu(device))
}

pub(crate) fn images(of: Pictures, size: usize) -> Tensor<4> {
    let (pixels, indices) = (integers(of.pixels), of.indices.map(integers));
    let parameters = of.parameters.map(|parameters| primitive(parameters).tensor);
    let lent = ffi::Pictures {
        pixels: &pixels,
        indices: indices.as_ref(),
        parameters: parameters.as_ref(),
    };
    let made = done(ffi::images(lent, of.channels, size));
    Tensor::from_primitive::<LibTorch>(fresh(made))
}

pub(crate) fn images_on_host(
    pixels: TensorData,
    parameters: Option<TensorData>,
    channels: usize,
    size: usize,
) -> TensorData {
    let parameters = parameters.map(|parameters| on_host::<2>(parameters).tensor);
    let of = ffi::Pictures {
        pixels: &int_on_host::<3>(pixels).tensor,
        indices: None,
        parameters: parameters.as_ref(),
    };
    let made = done(ffi::images(of, channels, size));
    let channels = i64::try_from(channels).expect("few channels");
    // As they lie in memory; of a gray image one channel is enough.
    let made = made.permute([0, 2, 3, 1]).narrow(3, 0, channels);
    Tensor::<4>::from_primitive::<LibTorch>(fresh(made)).into_data()
}

fn integers<const D: usize>(tensor: Tensor<D, Int>) -> tch::Tensor {
    let tensor = tensor.try_into_primitive::<LibTorch>();
    tensor.expect("it is LibTorch's").tensor
}
