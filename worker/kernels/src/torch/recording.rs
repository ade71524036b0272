//! CUDA graphs.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Device;

use super::{done, ffi, gpu};
use crate::GraphError;

/// A CUDA graph.
#[derive(Debug)]
pub(crate) struct Recording(ffi::Graph);

/// CUDA graphs of one GPU that have their memory in common.
#[derive(Clone, Debug)]
pub(crate) struct RecordingFamily {
    gpu: usize,
    /// Another one after a recording that failed: LibTorch takes none again that has lost its last graph.
    family: Arc<Mutex<ffi::Family>>,
}

impl RecordingFamily {
    pub(crate) fn new(device: &Device) -> Result<Self, GraphError> {
        let gpu = gpu(device).ok_or(GraphError::NoGpu)?;
        if !ffi::Graph::available() {
            return Err(GraphError::NotBuilt);
        }
        let family = Arc::new(Mutex::new(new_family()?));
        Ok(Self { gpu, family })
    }

    /// Records what `body` does; an error of its own ends the recording.
    pub(crate) fn record<T>(
        &self,
        body: impl FnOnce() -> Result<T, String>,
    ) -> Result<(Recording, T), GraphError> {
        let mut family = self.family.lock().unwrap_or_else(PoisonError::into_inner);
        // The body's error is worth more than LibTorch's, which only says that there is nothing recorded.
        match ffi::Graph::record(self.gpu, *family, body) {
            Ok((graph, value)) => Ok((Recording(graph), value)),
            Err(reason) => {
                *family = new_family()?;
                Err(GraphError::Failed(reason))
            }
        }
    }
}

fn new_family() -> Result<ffi::Family, GraphError> {
    ffi::Family::new().map_err(|error| GraphError::Failed(error.to_string()))
}

impl Recording {
    pub(crate) fn replay(&mut self) {
        done(self.0.replay());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    mod gpu {
        use super::*;

        #[test]
        fn a_family_outlives_a_recording_that_failed() {
            if !ffi::tests::has_gpu() || !ffi::Graph::available() {
                return;
            }
            let family = RecordingFamily {
                gpu: 0,
                family: Arc::new(Mutex::new(new_family().unwrap())),
            };
            let total = tch::Tensor::zeros([3], (tch::Kind::Float, tch::Device::Cuda(0)));
            let add = || {
                let _ = total.shallow_clone().g_add_scalar_(1.0);
                Ok(())
            };
            add().unwrap();
            let failed = family.record::<()>(|| Err("it fails".to_owned()));
            assert_eq!(
                failed.unwrap_err(),
                GraphError::Failed("it fails".to_owned())
            );
            let (mut recording, ()) = family.record(add).unwrap();
            // The other way round, too: there is one that has not failed.
            family.record::<()>(|| Err("again".to_owned())).unwrap_err();
            let (mut other, ()) = family.record(add).unwrap();
            recording.replay();
            other.replay();
            assert_eq!(total.sum(tch::Kind::Double).double_value(&[]), 9.0);
        }
    }
}
