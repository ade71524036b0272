//! CUDA graphs.

use burn::tensor::Device;

use super::{done, ffi, gpu};
use crate::GraphError;

/// A CUDA graph.
#[derive(Debug)]
pub(crate) struct Recording(ffi::Graph);

impl Recording {
    /// The GPU that graphs of `device` are recorded on.
    pub(crate) fn check(device: &Device) -> Result<usize, GraphError> {
        let gpu = gpu(device).ok_or(GraphError::NoGpu)?;
        match ffi::Graph::available() {
            true => Ok(gpu),
            false => Err(GraphError::NotBuilt),
        }
    }

    /// Records what `body` does; an error of its own ends the recording.
    pub(crate) fn record<T>(
        device: &Device,
        sibling: Option<&Self>,
        body: impl FnOnce() -> Result<T, String>,
    ) -> Result<(Self, T), GraphError> {
        let gpu = Self::check(device)?;
        let sibling = sibling.map(|recording| &recording.0);
        // The body's error is worth more than LibTorch's, which only says that there is nothing recorded.
        let recorded = ffi::Graph::record(gpu, sibling, body);
        let (graph, value) = recorded.map_err(GraphError::Failed)?;
        Ok((Self(graph), value))
    }

    pub(crate) fn replay(&mut self) {
        done(self.0.replay());
    }
}
