//! CUDA graphs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use burn::tensor::Device;

use super::{done, ffi, gpu};
use crate::GraphError;

/// A CUDA graph.
#[derive(Debug)]
pub(crate) struct Recording {
    graph: ffi::Graph,
    /// Dropped after the graph.
    _member: Arc<()>,
}

/// CUDA graphs of one GPU that have their memory in common.
#[derive(Clone, Debug)]
pub(crate) struct RecordingFamily {
    gpu: usize,
    pool: Arc<Mutex<Pool>>,
}

/// The memory of a family. LibTorch takes none again that has lost its last graph, or whose first one failed.
#[derive(Debug)]
struct Pool {
    family: ffi::Family,
    /// Its graphs, if there was ever one.
    members: Option<Weak<()>>,
}

impl RecordingFamily {
    pub(crate) fn new(device: &Device) -> Result<Self, GraphError> {
        let gpu = gpu(device).ok_or(GraphError::NoGpu)?;
        if !ffi::Graph::available() {
            return Err(GraphError::NotBuilt);
        }
        let pool = Arc::new(Mutex::new(Pool::new()?));
        Ok(Self { gpu, pool })
    }

    /// Records what `body` does; an error of its own ends the recording.
    pub(crate) fn record<T>(
        &self,
        body: impl FnOnce() -> Result<T, String>,
    ) -> Result<(Recording, T), GraphError> {
        let family = {
            let mut pool = self.pool();
            if pool.is_lost() {
                *pool = Pool::new()?;
            }
            pool.family
        };
        // The body's error is worth more than LibTorch's, which only says that there is nothing recorded.
        let recorded = ffi::Graph::record(self.gpu, family, body);
        let member = self.pool().member();
        let (graph, value) = recorded.map_err(GraphError::Failed)?;
        let recording = Recording {
            graph,
            _member: member,
        };
        Ok((recording, value))
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    fn new() -> Result<Self, GraphError> {
        let family = ffi::Family::new().map_err(|error| GraphError::Failed(error.to_string()))?;
        Ok(Self {
            family,
            members: None,
        })
    }

    fn is_lost(&self) -> bool {
        let members = self.members.as_ref();
        members.is_some_and(|members| members.strong_count() == 0)
    }

    fn member(&mut self) -> Arc<()> {
        let members = self.members.as_ref().and_then(Weak::upgrade);
        let member = members.unwrap_or_default();
        self.members = Some(Arc::downgrade(&member));
        member
    }
}

impl Recording {
    pub(crate) fn replay(&mut self) {
        done(self.graph.replay());
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
                pool: Arc::new(Mutex::new(Pool::new().unwrap())),
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
            // One that nobody keeps.
            drop(family.record(add).unwrap());
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
