//! The operations of the networks and of the optimizer that are worth a kernel of their own.
//!
//! On LibTorch (feature `tch`) they are LibTorch's, forward and backward; on every other backend they are
//! burn's. Callers need not know which: [`upload`], [`conv2d`], [`batch_norm`], [`relu`], [`add_scaled`],
//! [`max_pool`], [`avg_pool_3x3_same`], [`global_avg_pool`], [`Adam`]; [`channels_last`] puts images into the
//! layout that they are fastest in.
//!
//! - `fallback`: burn's operations
//! - `torch`: LibTorch's, as extensions of burn's backend; its unsafe code is in `torch/ffi.rs` and `shim/`,
//!   which also has convolutions by Winograd's algorithm
//! - [`Graph`]: operations on a GPU that are recorded once and done again and again by one launch
//! - `memory`: the allocator
//!
//! On LibTorch a failure is a panic with LibTorch's message, as those of burn's own operations are.

mod fallback;
mod graph;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod memory;
#[cfg(feature = "tch")]
mod torch;

use burn::nn::conv::Conv2d;
use burn::nn::pool::{AvgPool2dConfig, MaxPool2dConfig};
use burn::nn::{BatchNorm, PaddingConfig2d};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

pub use graph::{Graph, GraphError, GraphFamily};

/// Whose mean and variance a batch normalisation normalises by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// Those of the batch, which also move the running ones.
    Batch(Addresses),
    /// The running ones, which stay as they are.
    Running,
}

/// Where what a training step changes has its new values: parameters, moments and running statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// Where nobody else sees the old values, in their memory; else in memory of their own.
    #[default]
    Free,
    /// In the memory of the old ones, whoever sees it, so that a [`Graph`] of the step can be replayed. On
    /// LibTorch only.
    Fixed,
}

/// One update of Adam as Keras computes it, with epsilon outside of the bias correction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamUpdate {
    /// Learning rate of this update.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// What is added to the root of the second moment.
    pub epsilon: f64,
    /// Number of this update, from 1.
    pub number: u64,
}

impl AdamUpdate {
    /// The learning rate with the corrections of both moments' bias.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let t = self.number as f64;
        self.learning_rate * (1.0 - self.beta2.powf(t)).sqrt() / (1.0 - self.beta1.powf(t))
    }
}

/// A parameter with its moments, which are flat.
#[derive(Clone, Debug)]
pub struct AdamState<const D: usize> {
    /// The parameter, without autodiff.
    pub value: Tensor<D>,
    /// First moment, `[elements]`.
    pub m: Tensor<1>,
    /// Second moment, `[elements]`.
    pub v: Tensor<1>,
}

/// Version of the LibTorch that this program was built with.
pub const LIBTORCH_VERSION: Option<&str> = option_env!("QUARTET_LIBTORCH_VERSION");

/// Gives memory that is not in use back to the system: what a training took stays with the process until
/// then, so that steps need not ask for it again.
pub fn release_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    memory::release();
}

/// Whether the operations on this device, with or without autodiff, are LibTorch's.
#[must_use]
pub fn is_native(device: &Device) -> bool {
    #[cfg(feature = "tch")]
    return torch::is_torch(device);
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
    return torch::gpu(device).is_some();
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
    if let Some(gpu) = torch::gpu(device) {
        return Some(torch::is_idle(gpu));
    }
    match device.clone().inner().as_dispatch() {
        #[cfg(feature = "cuda")]
        burn::backend::DispatchDevice::Cuda(_) => None,
        _ => Some(true),
    }
}

/// How often `body` has called each of LibTorch's operations on this thread, by name (such as `aten::add`):
/// for tests. Those that are parts of others count, too.
#[cfg(feature = "tch")]
pub fn observed<T>(body: impl FnOnce() -> T) -> (T, std::collections::BTreeMap<String, u64>) {
    torch::observed(body)
}

/// The most bytes of tensors on a GPU of LibTorch's since the last call.
#[must_use]
pub fn peak_bytes(device: &Device) -> Option<u64> {
    #[cfg(feature = "tch")]
    return torch::gpu(device).map(torch::peak_bytes);
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
    if torch::gpu(device).is_some() {
        torch::set_gpu_arithmetic(arithmetic);
    }
    #[cfg(not(feature = "tch"))]
    let _ = (device, arithmetic);
}

/// Floats on a device that is without autodiff: of 64 bits where the data are, else of the device's type. The
/// host does not wait for the copy to a GPU of LibTorch's.
#[must_use]
pub fn upload<const D: usize>(data: TensorData, device: &Device) -> Tensor<D> {
    #[cfg(feature = "tch")]
    if let Some(gpu) = torch::gpu(device) {
        return torch::upload(data, gpu);
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
    if let Some(gpu) = torch::gpu(device) {
        return torch::upload_int(data, gpu);
    }
    let dtype = data.dtype();
    Tensor::from_data(data, (device, dtype))
}

/// Zeros of bytes on a device of LibTorch's, for [`write_int`]; elsewhere there are none.
#[must_use]
pub fn zero_bytes<const D: usize>(shape: [usize; D], device: &Device) -> Option<Tensor<D, Int>> {
    #[cfg(feature = "tch")]
    return is_native(device).then(|| torch::zero_bytes(shape, device));
    #[cfg(not(feature = "tch"))]
    {
        let _ = (shape, device);
        None
    }
}

/// Copies `data` into a tensor of LibTorch's, which keeps its address. The host does not wait for the copy.
///
/// # Panics
/// Where [`is_native`] is false, and if the shape is another one.
pub fn write<const D: usize>(target: &Tensor<D>, data: TensorData) {
    #[cfg(feature = "tch")]
    return torch::write(target, data);
    #[cfg(not(feature = "tch"))]
    unreachable!("{target:?} is not LibTorch's: {data:?}");
}

/// [`write`] of integers.
///
/// # Panics
/// As [`write`].
pub fn write_int<const D: usize>(target: &Tensor<D, Int>, data: TensorData) {
    #[cfg(feature = "tch")]
    return torch::write_int(target, data);
    #[cfg(not(feature = "tch"))]
    unreachable!("{target:?} is not LibTorch's: {data:?}");
}

/// Copies the values of `source` into a tensor of LibTorch's on the same device, which keeps its address.
///
/// # Panics
/// Where [`is_native`] is false, and if the shape is another one.
pub fn overwrite<const D: usize>(target: &Tensor<D>, source: &Tensor<D>) {
    #[cfg(feature = "tch")]
    return torch::overwrite(target, source);
    #[cfg(not(feature = "tch"))]
    unreachable!("{target:?} is not LibTorch's: {source:?}");
}

/// The same values in memory of their own, on LibTorch; elsewhere no memory is written to that is shared.
#[must_use]
pub fn copied<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "tch")]
    if is_native(&tensor.device()) {
        return torch::copied(tensor);
    }
    tensor
}

/// Where a tensor of LibTorch's, with or without autodiff, begins in the memory of its device.
#[must_use]
pub fn address<const D: usize>(tensor: &Tensor<D>) -> Option<usize> {
    #[cfg(feature = "tch")]
    if is_native(&tensor.device()) {
        return Some(torch::address(tensor));
    }
    let _ = tensor;
    None
}

/// Convolution of `[batch, channels, height, width]`, with bias where the module has one. The weights are
/// taken in the type of `x`; their gradients are in the weights' own.
#[must_use]
pub fn conv2d(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "tch")]
    if is_native(&x.device()) {
        return torch::conv2d(conv, x);
    }
    conv.forward(x)
}

/// [`conv2d`], then ReLU.
#[must_use]
pub fn conv2d_relu(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "tch")]
    if combines(conv, &x) {
        return torch::conv2d_combined(conv, x, None, 1.0, true);
    }
    relu(conv2d(conv, x))
}

/// `x + scale * conv(branch)`, both of the same shape, then ReLU if `with_relu`.
#[must_use]
pub fn conv2d_add_scaled(
    conv: &Conv2d,
    branch: Tensor<4>,
    x: Tensor<4>,
    scale: f64,
    with_relu: bool,
) -> Tensor<4> {
    #[cfg(feature = "tch")]
    if combines(conv, &branch) {
        return torch::conv2d_combined(conv, branch, Some(x), scale, with_relu);
    }
    let y = add_scaled(x, conv2d(conv, branch), scale);
    match with_relu {
        true => relu(y),
        false => y,
    }
}

/// Whether what follows a convolution is worth an operation with it: on GPUs, which wait for memory. (On CPUs
/// the bias is oneDNN's to add.)
#[cfg(feature = "tch")]
fn combines(conv: &Conv2d, x: &Tensor<4>) -> bool {
    conv.bias.is_some() && is_gpu(&x.device())
}

/// Batch normalisation over all axes but the second of `[batch, channels, ..]`, then plus `residual`, then
/// ReLU if `relu`.
///
/// [`Statistics::Batch`] needs an autodiff device; a frozen layer ([`burn::module::Module::freeze`]) takes
/// the running statistics all the same. The running variance is that of biased variances.
#[must_use]
pub fn batch_norm<const D: usize>(
    norm: &BatchNorm,
    x: Tensor<D>,
    residual: Option<Tensor<D>>,
    relu: bool,
    statistics: Statistics,
) -> Tensor<D> {
    #[cfg(feature = "tch")]
    if is_native(&x.device()) {
        return torch::batch_norm(norm, x, residual, relu, statistics);
    }
    fallback::batch_norm(norm, x, residual, relu, statistics)
}

/// max(x, 0).
#[must_use]
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "tch")]
    if is_native(&x.device()) {
        return torch::relu(x);
    }
    burn::tensor::activation::relu(x)
}

/// `x + scale * branch`, both of the same shape.
#[must_use]
pub fn add_scaled(x: Tensor<4>, branch: Tensor<4>, scale: f64) -> Tensor<4> {
    #[cfg(feature = "tch")]
    if is_native(&x.device()) {
        return torch::add_scaled(x, branch, scale);
    }
    x + branch.mul_scalar(scale)
}

/// Square max-pool with stride 2.
///
/// Burn's own everywhere: on LibTorch it has LibTorch's gradient, as [`avg_pool_3x3_same`] has.
#[must_use]
pub fn max_pool(x: Tensor<4>, kernel: usize, padding: PaddingConfig2d) -> Tensor<4> {
    MaxPool2dConfig::new([kernel, kernel])
        .with_strides([2, 2])
        .with_padding(padding)
        .init()
        .forward(x)
}

/// 3x3 mean with stride 1 and "same" padding, which counts as zeros or not at all.
#[must_use]
pub fn avg_pool_3x3_same(x: Tensor<4>, count_padding: bool) -> Tensor<4> {
    AvgPool2dConfig::new([3, 3])
        .with_strides([1, 1])
        .with_padding(PaddingConfig2d::Same)
        .with_count_include_pad(count_padding)
        .init()
        .forward(x)
}

/// Mean over height and width: `[batch, channels, height, width]` to `[batch, channels]`.
#[must_use]
pub fn global_avg_pool(x: Tensor<4>) -> Tensor<2> {
    #[cfg(feature = "tch")]
    if is_native(&x.device()) {
        return torch::global_avg_pool(x);
    }
    fallback::global_avg_pool(x)
}

/// The same values in the layout in which this crate's operations are fastest: on LibTorch the channels are
/// the innermost axis in memory, elsewhere nothing changes. The operations keep the layout.
#[must_use]
pub fn channels_last(x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "tch")]
    if is_native(&x.device()) {
        return torch::channels_last(x, false);
    }
    x
}

/// [`channels_last`] in bfloat16.
///
/// # Panics
/// Where [`is_native`] is false.
#[must_use]
pub fn channels_last_bf16(x: Tensor<4>) -> Tensor<4> {
    assert!(
        is_native(&x.device()),
        "mixed precision is computed by LibTorch only"
    );
    #[cfg(feature = "tch")]
    return torch::channels_last(x, true);
    #[cfg(not(feature = "tch"))]
    x
}

/// One update of all parameters of a network, of which LibTorch computes all at once.
#[derive(Debug)]
pub struct Adam {
    update: AdamUpdate,
    #[cfg_attr(not(feature = "tch"), expect(dead_code, reason = "LibTorch reads it"))]
    rate: Option<Tensor<1>>,
    #[cfg_attr(not(feature = "tch"), expect(dead_code, reason = "LibTorch reads it"))]
    addresses: Addresses,
    #[cfg(feature = "tch")]
    native: torch::AdamList,
}

impl Adam {
    /// An update of no parameter yet. On LibTorch `rate`, `[1]`, is read when the update is computed, in
    /// place of [`AdamUpdate::rate`].
    #[must_use]
    pub fn new(update: AdamUpdate, rate: Option<Tensor<1>>, addresses: Addresses) -> Self {
        Self {
            update,
            rate,
            addresses,
            #[cfg(feature = "tch")]
            native: torch::AdamList::default(),
        }
    }

    /// A parameter to update by its `gradient`. What is returned has its new values once
    /// [`finish`](Self::finish) was called.
    #[must_use]
    pub fn add<const D: usize>(
        &mut self,
        state: AdamState<D>,
        gradient: Tensor<D>,
    ) -> AdamState<D> {
        #[cfg(feature = "tch")]
        if is_native(&state.value.device()) {
            return self.native.add(state, gradient, self.addresses);
        }
        fallback::adam(state, gradient, self.update)
    }

    /// Updates what was added.
    pub fn finish(self) {
        #[cfg(feature = "tch")]
        self.native.update(self.update, self.rate);
    }
}
