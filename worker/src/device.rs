//! Which compiled backend trains, on which device, with how many threads.

use burn::tensor::Device;

#[cfg(feature = "tch")]
use crate::threads::{self, OMP_NUM_THREADS};

/// A backend on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum BackendChoice {
    /// `cuda` if it is compiled and a GPU is asked for, else `tch` if it is compiled, else `flex`.
    #[default]
    Auto,
    /// Pure Rust on the CPU.
    Flex,
    /// LibTorch: the CPU, or a GPU where a CUDA build of LibTorch is linked.
    Tch,
    /// NVIDIA GPUs through CubeCL.
    Cuda,
}

/// A device chosen by [`select`].
#[derive(Clone, Debug)]
pub struct TrainingDevice {
    /// The device, without autodiff.
    pub device: Device,
    /// What it is, for people.
    pub description: String,
}

/// Why no device can be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The backend is not in this binary.
    #[error("backend {backend} is not compiled into this binary; build it with: {build}")]
    NotCompiled {
        /// The backend.
        backend: &'static str,
        /// The command that builds a binary with it.
        build: &'static str,
    },
    /// A GPU is asked for, but nothing in this binary can use one.
    #[error(
        "--gpu: this binary has no GPU backend; build one with {BUILD_TCH} --pytorch, or with {BUILD_CUDA}"
    )]
    NoGpuBackend,
    /// Flex is asked for together with a GPU.
    #[error("backend flex runs on the CPU: leave --gpu away or choose another backend")]
    FlexHasNoGpu,
    /// The backend is there, the GPU is not.
    #[error(
        "there is no GPU {gpu}: backend {backend} sees {found} of them, counted from 0; {hint}"
    )]
    NoSuchGpu {
        /// The GPU asked for.
        gpu: usize,
        /// The backend.
        backend: &'static str,
        /// How many it sees.
        found: usize,
        /// What may be missing.
        hint: &'static str,
    },
    /// The number of threads cannot be set.
    #[error("cannot use {threads} threads: {reason}")]
    Threads {
        /// The number asked for.
        threads: usize,
        /// Why not.
        reason: String,
    },
}

#[cfg(not(feature = "flex"))]
const BUILD_FLEX: &str = "cargo build --release -p quartet-worker --features flex";
const BUILD_TCH: &str = "deploy/libtorch.sh";
const BUILD_CUDA: &str = "cargo build --release -p quartet-worker --features cuda";

const FLEX: bool = cfg!(feature = "flex");
pub(crate) const TCH: bool = cfg!(feature = "tch");
const CUDA: bool = cfg!(feature = "cuda");

/// Chooses a device; call it once, before any tensor is made.
///
/// `gpu` counts from 0. `threads` is for the CPU: flex computes in rayon's global pool, which has a thread
/// for every core (or `RAYON_NUM_THREADS`) unless `threads` is given. LibTorch reads `OMP_NUM_THREADS` once
/// when it is loaded: see [`threads::set`](crate::threads::set).
///
/// # Errors
/// A backend that is not compiled, a GPU that is not there, a pool that is running already.
pub fn select(
    choice: BackendChoice,
    gpu: Option<usize>,
    threads: Option<usize>,
) -> Result<TrainingDevice, DeviceError> {
    if gpu.is_some() && choice == BackendChoice::Flex {
        return Err(DeviceError::FlexHasNoGpu);
    }
    if gpu.is_some() && choice == BackendChoice::Auto && !TCH && !CUDA {
        return Err(DeviceError::NoGpuBackend);
    }
    match resolve(choice, gpu) {
        BackendChoice::Tch => tch(gpu, threads),
        BackendChoice::Cuda => cuda(gpu.unwrap_or(0)),
        BackendChoice::Flex | BackendChoice::Auto => flex(threads),
    }
}

/// What is meant by [`BackendChoice::Auto`].
pub(crate) fn resolve(choice: BackendChoice, gpu: Option<usize>) -> BackendChoice {
    match choice {
        BackendChoice::Auto if CUDA && (gpu.is_some() || !(TCH || FLEX)) => BackendChoice::Cuda,
        BackendChoice::Auto if TCH => BackendChoice::Tch,
        BackendChoice::Auto => BackendChoice::Flex,
        chosen => chosen,
    }
}

#[cfg(feature = "flex")]
fn flex(threads: Option<usize>) -> Result<TrainingDevice, DeviceError> {
    if let Some(threads) = threads {
        let cannot = |reason: String| DeviceError::Threads { threads, reason };
        if threads == 0 {
            return Err(cannot("at least one is needed".to_owned()));
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global().map_err(|e| cannot(e.to_string()))?;
    }
    let threads = rayon::current_num_threads();
    let plural = if threads == 1 { "" } else { "s" };
    let description = format!("CPU (flex, {threads} thread{plural})");
    Ok(TrainingDevice {
        device: Device::flex(),
        description,
    })
}

#[cfg(not(feature = "flex"))]
fn flex(_threads: Option<usize>) -> Result<TrainingDevice, DeviceError> {
    Err(DeviceError::NotCompiled {
        backend: "flex",
        build: BUILD_FLEX,
    })
}

#[cfg(feature = "tch")]
#[expect(
    deprecated,
    reason = "burn-tch is the only backend with cuDNN and oneDNN, and this project is meant to have it"
)]
fn tch(gpu: Option<usize>, threads: Option<usize>) -> Result<TrainingDevice, DeviceError> {
    if let Some(threads) = threads.filter(|&n| n == 0 || !threads::has_openmp(n)) {
        let reason = match threads {
            0 => "at least one is needed".to_owned(),
            n => format!("LibTorch wants {OMP_NUM_THREADS}={n} in the environment"),
        };
        return Err(DeviceError::Threads { threads, reason });
    }
    let Some(gpu) = gpu else {
        return Ok(TrainingDevice {
            device: Device::libtorch(),
            description: "CPU (LibTorch)".to_owned(),
        });
    };
    let found = tch_gpus();
    if gpu >= found {
        return Err(DeviceError::NoSuchGpu {
            gpu,
            backend: "tch",
            found,
            hint: "it needs NVIDIA's driver, and a LibTorch with CUDA (deploy/libtorch.sh --pytorch)",
        });
    }
    let device = Device::libtorch_cuda(gpu);
    // An experiment may say otherwise.
    let exact = quartet_kernels::GpuArithmetic {
        tf32: false,
        deterministic: false,
    };
    quartet_kernels::set_gpu_arithmetic(&device, exact);
    Ok(TrainingDevice {
        device,
        description: format!("GPU {gpu} (LibTorch)"),
    })
}

#[cfg(not(feature = "tch"))]
fn tch(_gpu: Option<usize>, _threads: Option<usize>) -> Result<TrainingDevice, DeviceError> {
    Err(DeviceError::NotCompiled {
        backend: "tch",
        build: BUILD_TCH,
    })
}

#[cfg(feature = "cuda")]
fn cuda(gpu: usize) -> Result<TrainingDevice, DeviceError> {
    let found = cuda_gpus();
    if gpu >= found {
        return Err(DeviceError::NoSuchGpu {
            gpu,
            backend: "cuda",
            found,
            hint: "it needs NVIDIA's driver",
        });
    }
    Ok(TrainingDevice {
        device: Device::cuda(gpu),
        description: format!("GPU {gpu} (CUDA)"),
    })
}

#[cfg(not(feature = "cuda"))]
fn cuda(_gpu: usize) -> Result<TrainingDevice, DeviceError> {
    Err(DeviceError::NotCompiled {
        backend: "cuda",
        build: BUILD_CUDA,
    })
}

/// The GPUs that a worker of this program can have, by number, each with what computes on it. None where none
/// is there, or no backend for one is compiled.
#[must_use]
pub fn gpus() -> Vec<(usize, &'static str)> {
    let (found, backend) = match resolve(BackendChoice::Auto, Some(0)) {
        BackendChoice::Tch => (tch_gpus(), "LibTorch"),
        BackendChoice::Cuda => (cuda_gpus(), "CUDA"),
        BackendChoice::Flex | BackendChoice::Auto => (0, ""),
    };
    (0..found).map(|gpu| (gpu, backend)).collect()
}

#[cfg(feature = "tch")]
fn tch_gpus() -> usize {
    // Lists the GPUs only.
    count(burn::tensor::DeviceType::LibTorch)
}

#[cfg(not(feature = "tch"))]
fn tch_gpus() -> usize {
    0
}

#[cfg(feature = "cuda")]
fn cuda_gpus() -> usize {
    count(burn::tensor::DeviceType::Cuda)
}

#[cfg(not(feature = "cuda"))]
fn cuda_gpus() -> usize {
    0
}

/// Drivers that are missing make some backends panic.
#[cfg(any(feature = "tch", feature = "cuda"))]
fn count(kind: burn::tensor::DeviceType) -> usize {
    let found = std::panic::catch_unwind(move || Device::enumerate(kind).into_vec().len());
    found.unwrap_or(0)
}

#[cfg(all(test, not(any(feature = "tch", feature = "cuda"))))]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_without_a_gpu_backend_says_how_to_build_one() {
        let error = select(BackendChoice::Auto, Some(0), None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(BUILD_TCH) && error.contains(BUILD_CUDA),
            "{error}"
        );
        let error = select(BackendChoice::Cuda, Some(0), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(BUILD_CUDA), "{error}");
        assert_eq!(
            select(BackendChoice::Flex, Some(0), None).unwrap_err(),
            DeviceError::FlexHasNoGpu
        );
    }

    #[cfg(feature = "flex")]
    #[test]
    fn without_a_gpu_backend_auto_is_flex() {
        let chosen = select(BackendChoice::Auto, None, None).unwrap();
        assert_eq!(chosen.device, Device::flex());
        assert!(
            chosen.description.starts_with("CPU (flex"),
            "{}",
            chosen.description
        );
        assert!(matches!(
            select(BackendChoice::Flex, None, Some(0)),
            Err(DeviceError::Threads { .. })
        ));
    }
}
