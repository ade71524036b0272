//! How many CPU threads compute, and what else has to stand in the environment when a program is loaded.

use std::os::unix::process::CommandExt;

use crate::device::{BackendChoice, DeviceError, TCH, resolve};

/// OpenMP's variable, which it reads when the program is loaded.
pub(crate) const OMP_NUM_THREADS: &str = "OMP_NUM_THREADS";

/// CPU threads beside a GPU, if nothing else is said: the host launches what the GPU computes, and little
/// else. Threads for all cores would only be in the way of other workers on the machine.
const THREADS_BESIDE_GPU: usize = 2;

#[cfg(feature = "tch")]
pub(crate) fn has_openmp(threads: usize) -> bool {
    std::env::var(OMP_NUM_THREADS).ok() == Some(threads.to_string())
}

/// Gives LibTorch so many CPU threads, if it is what will compute: starts this program again, as the same
/// process with the same arguments, with the variables set that are read when a program is loaded. To be
/// called before [`select`](crate::device::select) and before the program has begun anything.
///
/// Beside a GPU there are two threads unless `threads` or the environment says otherwise, and they sleep
/// while they wait.
///
/// # Errors
/// The program cannot be started again.
pub fn set(
    choice: BackendChoice,
    gpu: Option<usize>,
    threads: Option<usize>,
) -> Result<(), DeviceError> {
    if !TCH || resolve(choice, gpu) != BackendChoice::Tch {
        return Ok(());
    }
    let missing = variables(gpu.is_some(), threads, |name| std::env::var(name).ok());
    if missing.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe();
    let started = program.map(|program| {
        std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .envs(missing)
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
fn variables(
    on_gpu: bool,
    threads: Option<usize>,
    get: impl Fn(&str) -> Option<String>,
) -> Vec<(&'static str, String)> {
    let mut missing = Vec::new();
    match threads {
        // It is refused later.
        Some(0) => return missing,
        Some(threads) if get(OMP_NUM_THREADS) != Some(threads.to_string()) => {
            missing.push((OMP_NUM_THREADS, threads.to_string()));
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
            // What cuBLAS needs to compute the same each time, where that is asked for.
            ("CUBLAS_WORKSPACE_CONFIG", ":4096:8".to_owned()),
            // GPUs have the numbers that nvidia-smi and NVML give them.
            ("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()),
        ];
        for (name, value) in defaults {
            if get(name).is_none() && !missing.iter().any(|(set, _)| *set == name) {
                missing.push((name, value));
            }
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variables for an environment of these.
    fn missing(
        on_gpu: bool,
        threads: Option<usize>,
        environment: &[(&str, &str)],
    ) -> Vec<(&'static str, String)> {
        variables(on_gpu, threads, |name| {
            let found = environment.iter().find(|(known, _)| *known == name)?;
            Some(found.1.to_owned())
        })
    }

    #[test]
    fn beside_a_gpu_there_are_few_threads_that_do_not_spin() {
        let set = missing(true, None, &[]);
        let expected = [
            ("OMP_NUM_THREADS", "2".to_owned()),
            ("OMP_WAIT_POLICY", "PASSIVE".to_owned()),
            ("RAYON_NUM_THREADS", "2".to_owned()),
            ("CUBLAS_WORKSPACE_CONFIG", ":4096:8".to_owned()),
            ("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()),
        ];
        assert_eq!(set, expected);
        // Once they are set, the program is not started again.
        let set: Vec<_> = set
            .iter()
            .map(|(name, value)| (*name, &value[..]))
            .collect();
        assert_eq!(missing(true, None, &set), []);
        let six = missing(true, Some(6), &[]);
        assert_eq!(six[0], ("OMP_NUM_THREADS", "6".to_owned()));
        assert!(six.contains(&("RAYON_NUM_THREADS", "6".to_owned())));
        let by_hand = [
            ("OMP_NUM_THREADS", "9"),
            ("RAYON_NUM_THREADS", "5"),
            ("CUDA_DEVICE_ORDER", "FASTEST_FIRST"),
            ("CUBLAS_WORKSPACE_CONFIG", ":16:8"),
        ];
        assert_eq!(
            missing(true, None, &by_hand),
            [("OMP_WAIT_POLICY", "PASSIVE".to_owned())],
            "what is set by hand stays"
        );
    }

    #[test]
    fn on_the_cpu_all_cores_compute_unless_it_is_said() {
        assert_eq!(missing(false, None, &[]), []);
        assert_eq!(missing(false, Some(0), &[]), []);
        let three = [("OMP_NUM_THREADS", "3".to_owned())];
        assert_eq!(missing(false, Some(3), &[("OMP_NUM_THREADS", "9")]), three);
        assert_eq!(missing(false, Some(3), &[("OMP_NUM_THREADS", "3")]), []);
    }
}
