//! CUDA graphs.

use burn::tensor::Device;

use super::{done, ffi, gpu};
use crate::GraphError;

/// A CUDA graph.
#[derive(Debug)]
pub(crate) struct Recording(ffi::Graph);

/// CUDA graphs of one GPU that have their memory in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordingFamily {
    gpu: usize,
    family: ffi::Family,
}

impl RecordingFamily {
    pub(crate) fn new(device: &Device) -> Result<Self, GraphError> {
        let gpu = gpu(device).ok_or(GraphError::NoGpu)?;
        if !ffi::Graph::available() {
            return Err(GraphError::NotBuilt);
        }
        let family = ffi::Family::new().map_err(|error| GraphError::Failed(error.to_string()))?;
        Ok(Self { gpu, family })
    }

    /// Records what `body` does; an error of its own ends the recording.
    pub(crate) fn record<T>(
        self,
        body: impl FnOnce() -> Result<T, String>,
    ) -> Result<(Recording, T), GraphError> {
        // The body's error is worth more than LibTorch's, which only says that there is nothing recorded.
        let recorded = ffi::Graph::record(self.gpu, self.family, body);
        let (graph, value) = recorded.map_err(GraphError::Failed)?;
        Ok((Recording(graph), value))
    }
}

impl Recording {
    pub(crate) fn replay(&mut self) {
        done(self.0.replay());
    }
}
