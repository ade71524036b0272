//! Which precisions a device computes in.

use burn::tensor::Device;
use quartet_agent::executor::UnsupportedPrecision;
use quartet_shared::spec::Precision;

/// Whether `device` computes in this precision.
///
/// # Errors
/// It does not.
pub fn check_precision(precision: Precision, device: &Device) -> Result<(), UnsupportedPrecision> {
    match precision {
        Precision::Bf16 if !quartet_kernels::is_native(device) => {
            Err(UnsupportedPrecision(precision))
        }
        Precision::F32 | Precision::Bf16 => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "flex")]
    #[test]
    fn flex_computes_in_f32_only() {
        let flex = Device::flex();
        for device in [flex.clone(), flex.autodiff()] {
            assert_eq!(check_precision(Precision::F32, &device), Ok(()));
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
