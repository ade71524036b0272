//! Images out of bytes.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// What [`images`] are made of, on one device without autodiff.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// Bytes, `[images, height, width * channels]`, with one channel or three.
    pub pixels: Tensor<3, Int>,
    /// Which of the images, int64 `[N]`; all if there are none.
    pub indices: Option<Tensor<1, Int>>,
    /// How they are changed, float64 `[N, 5]`: shift of the rows and of the columns as fractions of the
    /// image, zoom of the rows and of the columns, 1 for an image that is mirrored left to right and else 0.
    /// Only resized if there are none.
    pub parameters: Option<Tensor<2>>,
    /// How many channels.
    pub channels: usize,
}

/// Who makes images for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageMaker {
    /// The device, by [`images`].
    Device,
    /// The host, by [`images_on_host`]: for GPUs of LibTorch's that cannot have the kernel, or are not to
    /// have it. Where it has failed a warning says why.
    Host,
    /// Nobody here.
    Nobody,
}

impl ImageMaker {
    /// Of this device: on LibTorch there is always one.
    #[must_use]
    pub fn of(device: &Device) -> Self {
        #[cfg(feature = "tch")]
        if crate::is_native(device) {
            return match crate::torch::makes_images(device) {
                true => Self::Device,
                false => Self::Host,
            };
        }
        let _ = device;
        Self::Nobody
    }
}

/// Images `[N, 3, size, size]` in 0 to 1, in float32, whose channels are the innermost axis in memory; of a
/// gray image all three are equal. Resized by the nearest pixel, then shifted and zoomed by one bilinear
/// resampling, beyond the edge the edge, then mirrored. The same on CPUs and GPUs, bit for bit.
///
/// # Panics
/// Where [`ImageMaker`] is not the device; and on a CPU for numbers of images that there are not. (A GPU
/// makes images of NaN of those.)
#[must_use]
pub fn images(of: Pictures, size: usize) -> Tensor<4> {
    #[cfg(feature = "tch")]
    return crate::torch::images(of, size);
    #[cfg(not(feature = "tch"))]
    unreachable!("{of:?} of {size} pixels is not LibTorch's");
}

/// [`images`] of bytes `[N, height, width * channels]`, while all is still on the host:
/// `[N, size, size, channels]`.
///
/// # Panics
/// Without LibTorch.
#[must_use]
pub fn images_on_host(
    pixels: TensorData,
    parameters: Option<TensorData>,
    channels: usize,
    size: usize,
) -> TensorData {
    #[cfg(feature = "tch")]
    return crate::torch::images_on_host(pixels, parameters, channels, size);
    #[cfg(not(feature = "tch"))]
    unreachable!("{pixels:?} of {channels} channels, {parameters:?}, for {size} without LibTorch");
}
