//! This program and this machine, for the record of every attempt.

use std::num::NonZero;
use std::thread::available_parallelism;

use quartet_shared::provenance::Provenance;
use quartet_shared::{host, label};

use crate::device::TrainingDevice;
use crate::gpu_monitor::Gpu;

/// Features that this program may be built with.
const FEATURES: [(&str, bool); 3] = [
    ("flex", cfg!(feature = "flex")),
    ("tch", cfg!(feature = "tch")),
    ("cuda", cfg!(feature = "cuda")),
];

/// What computes on this device, which is this GPU if it is one.
#[must_use]
pub fn of(device: &TrainingDevice, gpu: Option<Gpu>) -> Provenance {
    let (gpu, driver) = gpu.map(|gpu| (gpu.name, gpu.driver)).unzip();
    let features = FEATURES.iter().filter(|(_, compiled)| *compiled);
    let features: Vec<&str> = features.map(|(name, _)| *name).collect();
    let libtorch = quartet_kernels::is_native(&device.device)
        .then_some(quartet_kernels::LIBTORCH_VERSION)
        .flatten();
    let known = |text: &str| Some(label::of(text));
    Provenance {
        device: known(&device.description),
        version: known(env!("CARGO_PKG_VERSION")),
        commit: option_env!("QUARTET_COMMIT").and_then(known),
        features: known(&features.join(" ")),
        host: known(&host::name()),
        cpu: known(&cpu()),
        gpu: gpu.as_deref().and_then(known),
        driver: driver.flatten().as_deref().and_then(known),
        libtorch: libtorch.and_then(known),
    }
}

/// The processor's model, and how many cores this process may use: "AMD EPYC 9554 64-Core Processor, 2
/// cores".
fn cpu() -> String {
    let model = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| model_of(&text).map(str::to_owned))
        // Processors other than x86's have no name there.
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    match available_parallelism().map_or(1, NonZero::get) {
        1 => format!("{model}, 1 core"),
        cores => format!("{model}, {cores} cores"),
    }
}

/// The model that the text of `/proc/cpuinfo` names.
fn model_of(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    let (_, model) = line.split_once(':')?;
    Some(model.trim()).filter(|model| !model.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named() {
        let text =
            "processor\t: 0\nmodel name\t: AMD EPYC 9554\n\nprocessor\t: 1\nmodel name\t: other\n";
        assert_eq!(model_of(text), Some("AMD EPYC 9554"));
        assert_eq!(model_of("processor\t: 0\nCPU part\t: 0xd40\n"), None);
        assert!(cpu().contains("core"), "{}", cpu());
    }
}
