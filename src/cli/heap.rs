//! How glibc keeps the memory that this program has freed.

/// Sets it, where the allocator is glibc's. To be called before there are threads.
///
/// What is large goes back to the kernel at once. Left to itself, glibc takes what was freed once
/// as the size that is still small, and each thread then keeps that much for good. The memory
/// of a thread begins with 1 MiB of addresses, of which only what is used counts: it otherwise
/// grows page by page, for each of which the other threads wait. And of the many threads that wait for files and the
/// network, not each gets memory of its own, which it would keep: there is that for three on each processor,
/// where glibc has it for eight.
pub fn set_up() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;

        // From glibc's `malloc.h`.
        const M_TOP_PAD: c_int = -2;
        const M_MMAP_THRESHOLD: c_int = -3;
        const M_ARENA_MAX: c_int = -8;
        // SAFETY: declared as there. It sets a number, and takes any.
        unsafe extern "C" {
            safe fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        // Should they be refused, more memory is kept.
        mallopt(M_MMAP_THRESHOLD, 128 << 10);
        mallopt(M_TOP_PAD, 1 << 20);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let arenas = processors.saturating_mul(3);
        mallopt(M_ARENA_MAX, c_int::try_from(arenas).unwrap_or(c_int::MAX));
    }
}
