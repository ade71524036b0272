//! The CPU devices that this build has, for tests that compare backends.

use burn::tensor::Device;

/// The CPU on every backend that is compiled, flex first.
#[must_use]
pub fn cpus() -> Vec<Device> {
    [flex(), libtorch()].into_iter().flatten().collect()
}

#[cfg(feature = "flex")]
fn flex() -> Option<Device> {
    Some(Device::flex())
}

#[cfg(not(feature = "flex"))]
fn flex() -> Option<Device> {
    None
}

#[cfg(feature = "tch")]
#[expect(
    deprecated,
    reason = "burn-tch is the only backend with cuDNN and oneDNN, and this project is meant to have it"
)]
fn libtorch() -> Option<Device> {
    Some(Device::libtorch())
}

#[cfg(not(feature = "tch"))]
fn libtorch() -> Option<Device> {
    None
}
