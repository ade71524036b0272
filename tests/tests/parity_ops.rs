//! Every operation of the networks gives PyTorch's output, and PyTorch's gradients in float64, on every
//! backend.
//!
//! `QUARTET_PYTHON` names a Python that has PyTorch; `tests/parity/ops_live.py` makes the cases.

#![expect(
    clippy::print_stdout,
    reason = "the measured differences are what these tests are run for"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use burn::tensor::{DType, Device};
use quartet_kernels::is_native;
use quartet_tests::parity::operations::{Case, Layout, Setting, run};
use quartet_tests::parity::{self, Tensors};

/// The settings for a device, and the largest difference in each.
fn settings(device: &Device) -> Vec<(Setting, f64)> {
    let settings = [
        (DType::F32, Layout::Ordinary, 1e-6),
        (DType::F64, Layout::Ordinary, 1e-13),
        (DType::F32, Layout::ChannelsLast, 1e-6),
        // bfloat16 has 8 bits.
        (DType::F32, Layout::Mixed, 1e-2),
    ];
    // Elsewhere layouts are burn's affair.
    let count = if is_native(device) { 4 } else { 2 };
    let settings = settings.into_iter().take(count);
    let on = |(dtype, layout, tolerance)| {
        let device = device.clone();
        (
            Setting {
                device,
                dtype,
                layout,
            },
            tolerance,
        )
    };
    settings.map(on).collect()
}

#[test]
fn outputs_and_gradients_are_pytorchs() {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/ops_live.py");
    let mut python = Command::new(parity::python());
    python.arg(script).arg(folder.path());
    assert!(python.status().unwrap().success());
    let cases: Vec<Case> = parity::json(&folder.path().join("cases.json"));
    let tensors = Tensors::read(&folder.path().join("cases.safetensors"));
    assert_eq!(cases.len(), 12 + 24 + 9 + 2);

    let mut failures = Vec::new();
    for (setting, tolerance) in parity::cpus().iter().flat_map(settings) {
        let mut worst = BTreeMap::new();
        for case in &cases {
            for (name, difference) in run(case, &tensors, &setting) {
                let kind = case.name.split('_').next().unwrap_or_default();
                let worst = worst.entry(kind).or_insert(0.0_f64);
                *worst = worst.max(difference);
                if difference.is_nan() || difference > tolerance {
                    failures.push(format!(
                        "{setting:?}: {}.{name}: {difference:.1e}",
                        case.name
                    ));
                }
            }
        }
        let worst = worst
            .iter()
            .map(|(kind, worst)| format!("{kind} {worst:.1e}"));
        let worst = worst.collect::<Vec<_>>().join(", ");
        println!("{setting:?}: {worst}");
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
