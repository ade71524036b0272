//! The allocator of every program that computes.
//!
//! A training step allocates the same hundreds of large tensors as the one before. glibc gives each of them
//! back to the kernel and has the next one cleared page by page; jemalloc keeps them, in huge pages.

use tikv_jemalloc_sys as jemalloc;

/// See jemalloc(3): huge pages for everything, nothing is given back by itself, large blocks are kept as the
/// others are. The environment's `MALLOC_CONF` wins.
#[expect(unsafe_code, reason = "jemalloc reads this symbol when it starts")]
// SAFETY: nothing else defines the symbol, whose type is that of jemalloc's `const char *malloc_conf`: a thin
// pointer, to a string that ends with 0.
#[unsafe(export_name = "malloc_conf")]
static CONFIGURATION: &[u8; 96] =
    b"thp:always,metadata_thp:auto,narenas:8,dirty_decay_ms:-1,muzzy_decay_ms:-1,oversize_threshold:0\0";

/// Gives the memory that is not in use back to the kernel.
#[expect(unsafe_code, reason = "a call of C")]
pub(crate) fn release() {
    // 4096 stands for all arenas (`MALLCTL_ARENAS_ALL`).
    let name = c"arena.4096.purge";
    let (old, size, new) = (
        std::ptr::null_mut(),
        std::ptr::null_mut(),
        std::ptr::null_mut(),
    );
    // SAFETY: the name is a C string, and this control takes and gives no value.
    let error = unsafe { jemalloc::mallctl(name.as_ptr(), old, size, new, 0) };
    debug_assert_eq!(error, 0, "jemalloc knows {name:?}");
}

#[cfg(test)]
mod tests {
    /// Resident memory of this process in bytes.
    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    const SIZE: usize = 512 << 20;

    /// `fill` allocates and frees [`SIZE`] bytes.
    fn check(fill: impl FnOnce()) {
        super::release();
        let before = resident();
        fill();
        let kept = resident();
        assert!(kept > before + SIZE / 2, "{before} {kept}");
        super::release();
        let released = resident();
        assert!(released + SIZE / 2 < kept, "{kept} {released}");
    }

    #[test]
    fn memory_is_kept_until_it_is_released() {
        check(|| drop(std::hint::black_box(vec![1_u8; SIZE])));
        // LibTorch, too, has its memory from here.
        #[cfg(feature = "tch")]
        check(|| {
            drop(tch::Tensor::ones(
                SIZE as i64,
                (tch::Kind::Uint8, tch::Device::Cpu),
            ))
        });
    }
}
