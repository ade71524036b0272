//! Steps that a GPU repeats by itself.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Device;

/// Operations on a GPU of LibTorch's, recorded once: a CUDA graph. A replay is one launch, for which nobody
/// waits.
///
/// A graph reads and writes the memory that its operations had when they were recorded. Whoever replays it
/// keeps the tensors that were there before, and reads what was made while it was recorded before another
/// graph of the same family is replayed.
#[derive(Debug)]
pub struct Graph {
    #[cfg(feature = "tch")]
    recording: crate::torch::Recording,
    #[cfg(not(feature = "tch"))]
    recording: std::convert::Infallible,
}

/// Graphs of one GPU that have their memory in common, so that they take no more than the largest of them.
#[derive(Clone, Debug)]
pub struct GraphFamily {
    #[cfg(feature = "tch")]
    family: crate::torch::RecordingFamily,
    #[cfg(not(feature = "tch"))]
    family: std::convert::Infallible,
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

impl GraphFamily {
    /// A family without graphs.
    ///
    /// # Errors
    /// Why there are no graphs on this device.
    pub fn new(device: &Device) -> Result<Self, GraphError> {
        #[cfg(feature = "tch")]
        {
            let family = crate::torch::RecordingFamily::new(device)?;
            Ok(Self { family })
        }
        #[cfg(not(feature = "tch"))]
        {
            let _ = device;
            Err(GraphError::NoGpu)
        }
    }

    /// Records what `body` does on the GPU, all of which must have been done before, as the fastest
    /// algorithms are looked for then. Nothing is computed yet.
    ///
    /// # Errors
    /// `body` panics, as operations do that cannot be recorded.
    pub fn record<T>(&self, body: impl FnOnce() -> T) -> Result<(Graph, T), GraphError> {
        // What a body that panics leaves behind was not computed.
        let body = || {
            catch_unwind(AssertUnwindSafe(body)).map_err(|panic| panic_message(&*panic).to_owned())
        };
        #[cfg(feature = "tch")]
        {
            let (recording, value) = self.family.record(body)?;
            Ok((Graph { recording }, value))
        }
        #[cfg(not(feature = "tch"))]
        {
            let _ = body;
            match self.family {}
        }
    }
}

impl Graph {
    /// Queues what was recorded behind all that the device was told before; nobody waits for it.
    pub fn replay(&mut self) {
        #[cfg(feature = "tch")]
        self.recording.replay();
        #[cfg(not(feature = "tch"))]
        match self.recording {}
    }
}

/// What a panic says.
#[must_use]
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
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
            assert_eq!(GraphFamily::new(&device).unwrap_err(), GraphError::NoGpu);
        }
    }

    #[test]
    fn panics_are_told() {
        let said = |body: fn()| panic_message(&*catch_unwind(body).unwrap_err()).to_owned();
        assert_eq!(said(|| panic!("a constant")), "a constant");
        assert_eq!(said(|| panic!("a number: {}", 7)), "a number: 7");
        assert_eq!(said(|| std::panic::panic_any(7)), "no message");
    }
}
