//! Where a task is computed, and how much the device may do by itself.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use burn::module::Module;
use burn::tensor::Device;
use quartet_kernels::{Addresses, GraphError, GraphFamily, MemoryFormat, panic_message};
use quartet_shared::dataset::{Dataset, Split};

use crate::input::Input;
use crate::models::parameters::copied;

/// Bytes of pixels that a GPU keeps unless somebody says otherwise.
pub const DEVICE_DATA_LIMIT: u64 = 2 << 30;

/// The device of a task, which is without autodiff, and what is asked of it if it is a GPU of LibTorch's.
#[derive(Clone, Debug)]
pub struct Compute {
    /// The device.
    pub device: Device,
    /// Whether steps become CUDA graphs, where that can be had.
    graphs: bool,
    /// Splits of no more bytes of pixels are kept on the device.
    device_data_limit: u64,
    /// Does on a CPU what is done on a GPU, but for the graphs.
    rehearsal: bool,
    /// Of weights at fixed addresses.
    weights: MemoryFormat,
}

impl From<&Device> for Compute {
    fn from(device: &Device) -> Self {
        Self {
            device: device.clone(),
            graphs: true,
            device_data_limit: DEVICE_DATA_LIMIT,
            rehearsal: false,
            weights: match quartet_kernels::is_gpu(device) {
                true => MemoryFormat::ChannelsLast,
                false => MemoryFormat::Contiguous,
            },
        }
    }
}

impl Compute {
    /// With or without CUDA graphs, which there are where they can be had unless somebody says otherwise.
    #[must_use]
    pub fn with_graphs(self, graphs: bool) -> Self {
        Self { graphs, ..self }
    }

    /// Whether steps become CUDA graphs.
    #[must_use]
    pub fn records_steps(&self) -> bool {
        matches!(self.new_family(), Some(Ok(_)))
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

    /// With weights of this format where addresses are fixed. On CPUs Adam rounds the last elements of a
    /// tensor in another way than those before, so that results are the same to the last bit only if there
    /// are none.
    #[cfg(all(test, feature = "tch"))]
    pub(crate) fn with_weights(self, weights: MemoryFormat) -> Self {
        Self { weights, ..self }
    }

    /// In which format a training has the weights of convolutions.
    pub(crate) fn weights(&self) -> MemoryFormat {
        match self.addresses() {
            Addresses::Fixed => self.weights,
            Addresses::Free => MemoryFormat::Contiguous,
        }
    }

    /// A network whose weights stay as they are, in the format that it computes fastest with.
    pub(crate) fn arranged<M: Module>(&self, network: M) -> M {
        match self.weights() {
            MemoryFormat::Contiguous => network,
            format => copied(network, format),
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
        match self.rehearsal || self.records_steps() {
            true => Addresses::Fixed,
            false => Addresses::Free,
        }
    }

    /// The input of these splits of a data set, for networks that take `image_size` pixels square.
    ///
    /// # Errors
    /// The pixels cannot be read from their file.
    pub(crate) fn input(
        &self,
        dataset: &Dataset,
        splits: &[Split],
        image_size: u32,
    ) -> io::Result<Input> {
        let plain = Input::new(dataset, image_size, &self.device);
        if !self.rehearsal && !quartet_kernels::is_gpu(&self.device) {
            return Ok(plain);
        }
        let plain = plain.made_ahead();
        if !plain.is_made_by_device() {
            static SAID: Once = Once::new();
            SAID.call_once(|| tracing::info!("images are made on the CPU and sent batch by batch"));
            return Ok(plain);
        }
        let keeping = || {
            plain
                .clone()
                .keeping(dataset, splits, self.device_data_limit)
        };
        // A panic is what failures inside of burn are, such as no memory.
        catch_unwind(AssertUnwindSafe(keeping)).unwrap_or_else(|panic| {
            let reason = panic_message(&*panic);
            tracing::warn!("images are sent batch by batch, as the GPU cannot keep them: {reason}");
            Ok(plain.clone())
        })
    }
}

#[cfg(all(test, feature = "tch"))]
mod tests {
    use quartet_shared::dataset::{Channels, Images};

    use super::*;

    #[test]
    fn pixels_that_there_is_no_memory_for_are_sent_batch_by_batch() {
        // More bytes than a process has addresses: 2^24 images of 2^24 pixels.
        let train = Images {
            labels: vec![0; 1 << 24],
            ..Images::default()
        };
        let dataset = Dataset {
            width: 1 << 12,
            height: 1 << 12,
            channels: Channels::Gray,
            classes: vec!["one".to_owned()],
            splits: [train, Images::default(), Images::default()],
        };
        for device in crate::devices::cpus() {
            let compute = Compute::rehearsed(&device).with_device_data_limit(u64::MAX);
            if !quartet_kernels::is_native(&device) {
                continue;
            }
            let input = compute.input(&dataset, &[Split::Train], 8).unwrap();
            assert!(!input.keeps() && input.is_made_ahead());
        }
    }
}
