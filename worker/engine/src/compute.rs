//! Where a task is computed, and how much the device may do by itself.

use std::io;

use burn::tensor::Device;
use quartet_kernels::{Addresses, GraphError, GraphFamily};
use quartet_shared::dataset::Dataset;

use crate::input::Input;

/// Bytes of pixels that a GPU keeps unless somebody says otherwise.
pub const DEVICE_DATA_LIMIT: u64 = 2 << 30;

/// The device of a task, which is without autodiff, and what is asked of it if it is a GPU of LibTorch's.
#[derive(Clone, Debug)]
pub struct Compute {
    /// The device.
    pub device: Device,
    /// Whether steps become CUDA graphs, where that can be had.
    graphs: bool,
    /// A data set of no more bytes of pixels is kept on the device.
    device_data_limit: u64,
    /// Does on a CPU what is done on a GPU, but for the graphs.
    rehearsal: bool,
}

impl From<&Device> for Compute {
    fn from(device: &Device) -> Self {
        Self {
            device: device.clone(),
            graphs: true,
            device_data_limit: DEVICE_DATA_LIMIT,
            rehearsal: false,
        }
    }
}

impl Compute {
    /// With or without CUDA graphs, which there are where they can be had unless somebody says otherwise.
    #[must_use]
    pub fn with_graphs(self, graphs: bool) -> Self {
        Self { graphs, ..self }
    }

    /// With this many bytes of pixels at most that a GPU keeps, [`DEVICE_DATA_LIMIT`] at first.
    #[must_use]
    pub fn with_device_data_limit(self, device_data_limit: u64) -> Self {
        Self {
            device_data_limit,
            ..self
        }
    }

    /// What is done on a GPU, but for the graphs, on a CPU of LibTorch's.
    #[cfg(all(test, feature = "tch"))]
    pub(crate) fn rehearsed(device: &Device) -> Self {
        Self {
            rehearsal: true,
            ..Self::from(device)
        }
    }

    /// A family of graphs for a task, if its steps are to be recorded.
    pub(crate) fn family(&self) -> Option<GraphFamily> {
        match self.new_family()? {
            Ok(family) => Some(family),
            Err(reason) => {
                if reason != GraphError::NoGpu {
                    tracing::info!("steps are launched operation by operation: {reason}");
                }
                None
            }
        }
    }

    fn new_family(&self) -> Option<Result<GraphFamily, GraphError>> {
        (self.graphs && !self.rehearsal).then(|| GraphFamily::new(&self.device))
    }

    /// Where steps leave what they change.
    pub(crate) fn addresses(&self) -> Addresses {
        match self.rehearsal || matches!(self.new_family(), Some(Ok(_))) {
            true => Addresses::Fixed,
            false => Addresses::Free,
        }
    }

    /// The input of a data set's images for networks that take `image_size` pixels square.
    pub(crate) fn input(&self, dataset: &Dataset, image_size: u32) -> io::Result<Input> {
        match self.rehearsal || quartet_kernels::is_gpu(&self.device) {
            true => Input::keeping(dataset, image_size, &self.device, self.device_data_limit),
            false => Ok(Input::new(dataset, image_size, &self.device)),
        }
    }
}
