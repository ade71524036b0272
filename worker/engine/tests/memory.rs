//! What burn keeps of forward passes: in a process of its own, whose memory is measured.

use burn::tensor::Tensor;
use quartet_engine::devices::cpus;
use quartet_engine::memory::release_forward_passes;
use quartet_kernels::release_memory;

/// Of what a forward pass saves.
const BYTES: usize = 512 << 20;

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn what_a_forward_pass_without_a_backward_pass_has_saved_is_released() {
    for device in cpus() {
        let taken = || {
            release_memory(&device);
            resident()
        };
        let before = taken();
        let x = Tensor::<1>::ones([BYTES / 4], &device.clone().autodiff()).require_grad();
        // Its gradient needs what it was computed from.
        drop(x.exp());
        let kept = taken();
        assert!(kept > before + BYTES / 2, "{device:?}: {before} {kept}");
        release_forward_passes(&device);
        let released = taken();
        assert!(
            released < before + BYTES / 2,
            "{device:?}: {before} {released}"
        );
    }
}
