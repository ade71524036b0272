//! GPUs: copies to them, their graphs, and how they compute.

use std::ffi::c_char;
use std::ptr::{NonNull, null_mut};

use tch::Tensor;

use super::{
    Opaque, TorchError, call, one, quartet_graph_available, quartet_graph_begin, quartet_graph_end,
    quartet_graph_family, quartet_graph_free, quartet_graph_replay, quartet_is_idle,
    quartet_peak_bytes, quartet_release_gpu_memory, quartet_set_gpu_arithmetic, quartet_to_gpu,
};
use crate::GpuArithmetic;

/// A copy of a tensor of the host's on a GPU, which is queued: nobody waits for it.
pub(in crate::torch) fn to_gpu(x: &Tensor, gpu: usize) -> Result<Tensor, TorchError> {
    let gpu = i64::try_from(gpu).expect("few GPUs");
    one("copy to a GPU", |out, message| {
        // SAFETY: the tensor lives through the call, which only reads it; `out` has room for one.
        unsafe { quartet_to_gpu(x.as_ptr(), gpu, out, message) }
    })
}

/// A CUDA graph, which is being recorded or has been. It stays on its thread, whose memory for sums it has.
#[derive(Debug)]
pub(in crate::torch) struct Graph(NonNull<Opaque>);

/// Graphs that have their memory in common: no two of them may be replayed at the same time.
#[derive(Clone, Copy, Debug)]
pub(in crate::torch) struct Family([u64; 2]);

impl Family {
    pub(in crate::torch) fn new() -> Result<Self, TorchError> {
        let mut id = [0; 2];
        call("a family of CUDA graphs", |message| {
            // SAFETY: there is room for the two numbers that the call writes.
            unsafe { quartet_graph_family(id.as_mut_ptr(), message) }
        })?;
        Ok(Self(id))
    }
}

impl Graph {
    /// Whether this build has them.
    pub(in crate::torch) fn available() -> bool {
        // SAFETY: the call takes nothing.
        unsafe { quartet_graph_available() }
    }

    /// Records what `body` has LibTorch do on this GPU, which is not done yet.
    pub(in crate::torch) fn record<T>(
        gpu: usize,
        family: Family,
        body: impl FnOnce() -> Result<T, String>,
    ) -> Result<(Self, T), String> {
        let gpu = i64::try_from(gpu).expect("few GPUs");
        let mut out = null_mut();
        call("begin of a CUDA graph", |message| {
            // SAFETY: the family is two numbers; `out` has room for one graph.
            unsafe { quartet_graph_begin(gpu, family.0.as_ptr(), &mut out, message) }
        })
        .map_err(|error| error.to_string())?;
        let graph = Self(NonNull::new(out).expect("the shim stores a graph when it succeeds"));
        // If it fails, `drop` ends the recording.
        let value = body()?;
        call("end of a CUDA graph", |message| {
            // SAFETY: the graph is there, and its recording has begun on this thread.
            unsafe { quartet_graph_end(graph.0.as_ptr(), message) }
        })
        .map_err(|error| error.to_string())?;
        Ok((graph, value))
    }

    /// Has the GPU do what was recorded, after all that was queued before; nobody waits for it.
    pub(in crate::torch) fn replay(&mut self) -> Result<(), TorchError> {
        call("replay of a CUDA graph", |message| {
            // SAFETY: the graph is there, was recorded, and is borrowed mutably.
            unsafe { quartet_graph_replay(self.0.as_ptr(), message) }
        })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the graph is this value's alone, and is not used from here on.
        unsafe { quartet_graph_free(self.0.as_ptr()) }
    }
}

/// Whether a GPU has done all that this thread has told it.
pub(in crate::torch) fn is_idle(gpu: usize) -> Result<bool, TorchError> {
    let gpu = i64::try_from(gpu).expect("few GPUs");
    let mut idle = false;
    call("question to a GPU", |message| {
        // SAFETY: `idle` has room for what the call writes.
        unsafe { quartet_is_idle(gpu, &mut idle, message) }
    })?;
    Ok(idle)
}

/// The most bytes of tensors that there have been on a GPU since the last call.
pub(in crate::torch) fn peak_bytes(gpu: usize) -> Result<u64, TorchError> {
    bytes(gpu, quartet_peak_bytes)
}

/// Gives the memory of GPUs that no tensor and no graph has back to the system; how many bytes LibTorch still
/// has of this one.
pub(in crate::torch) fn release_memory(gpu: usize) -> Result<u64, TorchError> {
    bytes(gpu, quartet_release_gpu_memory)
}

/// What a call says of a GPU's memory.
fn bytes(
    gpu: usize,
    ask: unsafe extern "C" fn(i64, *mut i64, *mut *mut c_char) -> i32,
) -> Result<u64, TorchError> {
    let gpu = i64::try_from(gpu).expect("few GPUs");
    let mut bytes = 0;
    call("memory of a GPU", |message| {
        // SAFETY: `ask` is one of the shim's calls that write one number, for which `bytes` has room.
        unsafe { ask(gpu, &mut bytes, message) }
    })?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// How GPUs compute, for the whole process.
pub(in crate::torch) fn set_gpu_arithmetic(arithmetic: GpuArithmetic) -> Result<(), TorchError> {
    let GpuArithmetic {
        tf32,
        deterministic,
    } = arithmetic;
    call("settings of GPUs", |message| {
        // SAFETY: the call takes nothing but two values and a place for its message.
        unsafe { quartet_set_gpu_arithmetic(tf32, deterministic, message) }
    })
}
