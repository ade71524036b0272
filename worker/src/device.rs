//! Which compiled backend trains, on which device, with how many threads.

use std::os::unix::process::CommandExt;

use burn::tensor::Device;

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
const TCH: bool = cfg!(feature = "tch");
const CUDA: bool = cfg!(feature = "cuda");

/// Chooses a device; call it once, before any tensor is made.
///
/// `gpu` counts from 0. `threads` is for the CPU: flex computes in rayon's global pool, which has a thread
/// for every core (or `RAYON_NUM_THREADS`) unless `threads` is given. LibTorch reads `OMP_NUM_THREADS` once
/// when it is loaded: see [`set_threads`].
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
fn resolve(choice: BackendChoice, gpu: Option<usize>) -> BackendChoice {
    match choice {
        BackendChoice::Auto if CUDA && (gpu.is_some() || !(TCH || FLEX)) => BackendChoice::Cuda,
        BackendChoice::Auto if TCH => BackendChoice::Tch,
        BackendChoice::Auto => BackendChoice::Flex,
        chosen => chosen,
    }
}

/// OpenMP's variable, which it reads when the program is loaded.
const OMP_NUM_THREADS: &str = "OMP_NUM_THREADS";

/// CPU threads beside a GPU, if nothing else is said: the host launches what the GPU computes, and little else.
/// Threads for all cores would only be in the way of other workers on the machine.
const THREADS_BESIDE_GPU: usize = 2;

#[cfg(feature = "tch")]
fn has_openmp_threads(threads: usize) -> bool {
    std::env::var(OMP_NUM_THREADS).ok() == Some(threads.to_string())
}

/// Gives LibTorch so many CPU threads, if it is what will compute: starts this program again, as the same
/// process with the same arguments, with the variables set that are read when a program is loaded. To be called
/// before [`select`] and before the program has begun anything.
///
/// Beside a GPU there are two threads unless `threads` or the environment says otherwise, and they sleep while
/// they wait.
///
/// # Errors
/// The program cannot be started again.
pub fn set_threads(
    choice: BackendChoice,
    gpu: Option<usize>,
    threads: Option<usize>,
) -> Result<(), DeviceError> {
    if !TCH || resolve(choice, gpu) != BackendChoice::Tch {
        return Ok(());
    }
    let variables = thread_variables(gpu.is_some(), threads, |name| std::env::var(name).ok());
    if variables.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe();
    let started = program.map(|program| {
        std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .envs(variables)
            .exec()
    });
    let reason = match started {
        Ok(error) | Err(error) => format!("cannot start again: {error}"),
    };
    Err(DeviceError::Threads {
        threads: threads.unwrap_or(THREADS_BESIDE_GPU),
        reason,
    })
}

/// What is to be set in the environment, which has what `get` returns.
fn thread_variables(
    on_gpu: bool,
    threads: Option<usize>,
    get: impl Fn(&str) -> Option<String>,
) -> Vec<(&'static str, String)> {
    let mut variables = Vec::new();
    match threads {
        // It is refused later.
        Some(0) => return variables,
        Some(threads) if get(OMP_NUM_THREADS) != Some(threads.to_string()) => {
            variables.push((OMP_NUM_THREADS, threads.to_string()));
        }
        _ => {}
    }
    if on_gpu {
        let threads = threads.unwrap_or(THREADS_BESIDE_GPU).to_string();
        let defaults = [
            (OMP_NUM_THREADS, threads.clone()),
            // Threads that wait would compute nothing, and take a core each.
            ("OMP_WAIT_POLICY", "PASSIVE".to_owned()),
            ("RAYON_NUM_THREADS", threads),
        ];
        for (name, value) in defaults {
            if get(name).is_none() && !variables.iter().any(|(set, _)| *set == name) {
                variables.push((name, value));
            }
        }
    }
    variables
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
    if let Some(threads) = threads.filter(|&n| n == 0 || !has_openmp_threads(n)) {
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
    // A task may say otherwise.
    let fast = quartet_kernels::GpuArithmetic {
        tf32: true,
        deterministic: false,
    };
    quartet_kernels::set_gpu_arithmetic(&device, fast);
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
    count(|| {
        Device::enumerate(burn::tensor::DeviceType::LibTorch)
            .into_vec()
            .len()
    })
}

#[cfg(not(feature = "tch"))]
fn tch_gpus() -> usize {
    0
}

#[cfg(feature = "cuda")]
fn cuda_gpus() -> usize {
    count(|| {
        Device::enumerate(burn::tensor::DeviceType::Cuda)
            .into_vec()
            .len()
    })
}

#[cfg(not(feature = "cuda"))]
fn cuda_gpus() -> usize {
    0
}

/// Drivers that are missing make some backends panic.
#[cfg(any(feature = "tch", feature = "cuda"))]
fn count(devices: impl FnOnce() -> usize) -> usize {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(devices)).unwrap_or(0)
}

#[cfg(test)]
mod thread_tests {
    use super::*;

    /// The variables for an environment of these.
    fn variables(
        on_gpu: bool,
        threads: Option<usize>,
        environment: &[(&str, &str)],
    ) -> Vec<(&'static str, String)> {
        thread_variables(on_gpu, threads, |name| {
            let found = environment.iter().find(|(known, _)| *known == name)?;
            Some(found.1.to_owned())
        })
    }

    #[test]
    fn beside_a_gpu_there_are_few_threads_that_do_not_spin() {
        let set = variables(true, None, &[]);
        let expected = [
            ("OMP_NUM_THREADS", "2".to_owned()),
            ("OMP_WAIT_POLICY", "PASSIVE".to_owned()),
            ("RAYON_NUM_THREADS", "2".to_owned()),
        ];
        assert_eq!(set, expected);
        // Once they are set, the program is not started again.
        let set: Vec<_> = set
            .iter()
            .map(|(name, value)| (*name, &value[..]))
            .collect();
        assert_eq!(variables(true, None, &set), []);
        let expected = [
            ("OMP_NUM_THREADS", "6".to_owned()),
            ("OMP_WAIT_POLICY", "PASSIVE".to_owned()),
            ("RAYON_NUM_THREADS", "6".to_owned()),
        ];
        assert_eq!(variables(true, Some(6), &[]), expected);
        assert_eq!(
            variables(
                true,
                None,
                &[("OMP_NUM_THREADS", "9"), ("RAYON_NUM_THREADS", "5")]
            ),
            [("OMP_WAIT_POLICY", "PASSIVE".to_owned())],
            "what is set by hand stays"
        );
    }

    #[test]
    fn on_the_cpu_all_cores_compute_unless_it_is_said() {
        assert_eq!(variables(false, None, &[]), []);
        assert_eq!(variables(false, Some(0), &[]), []);
        let three = [("OMP_NUM_THREADS", "3".to_owned())];
        assert_eq!(
            variables(false, Some(3), &[("OMP_NUM_THREADS", "9")]),
            three
        );
        assert_eq!(variables(false, Some(3), &[("OMP_NUM_THREADS", "3")]), []);
    }
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
