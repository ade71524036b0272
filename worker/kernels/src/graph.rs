//! Steps that a GPU repeats by itself.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Device;

/// Operations on a GPU of LibTorch's, recorded once: a CUDA graph. A replay is one launch, for which the GPU does
/// not wait.
///
/// A graph reads and writes the memory that its operations had when they were recorded. Whoever replays it keeps
/// the tensors that were there before, and reads what was made while it was recorded before another graph of the
/// same family is replayed.
#[derive(Debug)]
pub struct Graph {
    #[cfg(feature = "tch")]
    recording: crate::torch::Recording,
    #[cfg(not(feature = "tch"))]
    recording: std::convert::Infallible,
}

/// Why there is no graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// The device has none.
    #[error("only GPUs of LibTorch's have CUDA graphs")]
    NoGpu,
    /// The program was built without CUDA's headers.
    #[error("the program was built without CUDA's headers, which CUDA graphs need")]
    NotBuilt,
    /// The operations cannot be recorded, or there is no memory for them.
    #[error("the operations cannot be recorded: {0}")]
    Failed(String),
}

impl Graph {
    /// Whether graphs can be recorded on this device.
    ///
    /// # Errors
    /// Why they cannot.
    pub fn check(device: &Device) -> Result<(), GraphError> {
        #[cfg(feature = "tch")]
        return crate::torch::Recording::check(device).map(|_| ());
        #[cfg(not(feature = "tch"))]
        {
            let _ = device;
            Err(GraphError::NoGpu)
        }
    }

    /// Records what `body` does on `device`, all of which must have been done before, as the fastest algorithms
    /// are looked for then. Nothing is computed yet. Graphs of one family share their memory: `sibling` is of
    /// the family that the new one will be of.
    ///
    /// # Errors
    /// The device has no graphs, or `body` panics, as operations do that cannot be recorded.
    pub fn record<T>(
        device: &Device,
        sibling: Option<&Self>,
        body: impl FnOnce() -> T,
    ) -> Result<(Self, T), GraphError> {
        // What a body that panics leaves behind was not computed.
        let body = || catch_unwind(AssertUnwindSafe(body)).map_err(|panic| message(&*panic));
        #[cfg(feature = "tch")]
        {
            let sibling = sibling.map(|graph| &graph.recording);
            let (recording, value) = crate::torch::Recording::record(device, sibling, body)?;
            Ok((Self { recording }, value))
        }
        #[cfg(not(feature = "tch"))]
        {
            let _ = (device, sibling, body);
            Err(GraphError::NoGpu)
        }
    }

    /// Queues what was recorded behind all that the device was told before; nobody waits for it.
    pub fn replay(&mut self) {
        #[cfg(feature = "tch")]
        self.recording.replay();
        #[cfg(not(feature = "tch"))]
        match self.recording {}
    }
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_graphs_says_so() {
        #[cfg(feature = "tch")]
        #[expect(deprecated, reason = "burn-tch is deprecated upstream")]
        let devices = [Device::libtorch()];
        #[cfg(all(feature = "flex", not(feature = "tch")))]
        let devices = [Device::flex()];
        #[cfg(not(any(feature = "flex", feature = "tch")))]
        let devices: [Device; 0] = [];
        for device in devices {
            assert_eq!(Graph::check(&device), Err(GraphError::NoGpu));
            let recorded = Graph::record(&device, None, || panic!("it is not called"));
            assert_eq!(recorded.map(|_| ()).unwrap_err(), GraphError::NoGpu);
        }
    }

    #[test]
    fn panics_are_told() {
        let said = |body: fn()| message(&*catch_unwind(body).unwrap_err());
        assert_eq!(said(|| panic!("a constant")), "a constant");
        assert_eq!(said(|| panic!("a number: {}", 7)), "a number: 7");
        assert_eq!(said(|| std::panic::panic_any(7)), "a panic");
    }
}
