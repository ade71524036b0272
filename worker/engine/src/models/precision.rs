//! Which precisions a device computes in, and that it does.

use burn::tensor::Device;
use quartet_agent::executor::UnsupportedPrecision;
use quartet_kernels::GpuArithmetic;
use quartet_shared::spec::{ExperimentSpec, Precision};

/// Whether `device` computes in this precision.
///
/// # Errors
/// It does not.
pub fn check_precision(precision: Precision, device: &Device) -> Result<(), UnsupportedPrecision> {
    match precision {
        Precision::Bf16 if !quartet_kernels::is_native(device) => {
            Err(UnsupportedPrecision(precision))
        }
        Precision::F32 | Precision::Tf32 | Precision::Bf16 => Ok(()),
    }
}

/// Has `device` compute as the experiment says.
///
/// # Errors
/// It does not compute in its precision.
pub(crate) fn prepare(
    experiment: &ExperimentSpec,
    device: &Device,
) -> Result<(), UnsupportedPrecision> {
    check_precision(experiment.precision, device)?;
    let arithmetic = GpuArithmetic {
        tf32: experiment.precision != Precision::F32,
        deterministic: experiment.deterministic,
    };
    quartet_kernels::set_gpu_arithmetic(device, arithmetic);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "flex")]
    #[test]
    fn flex_computes_in_f32_only() {
        let flex = Device::flex();
        for device in [flex.clone(), flex.autodiff()] {
            for precision in [Precision::F32, Precision::Tf32] {
                assert_eq!(check_precision(precision, &device), Ok(()));
            }
            let error = check_precision(Precision::Bf16, &device).unwrap_err();
            let text = error.to_string();
            let parts = [
                "precision = \"bf16\"",
                "--backend tch",
                "deploy/libtorch.sh",
                "precision = \"f32\"",
            ];
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}
