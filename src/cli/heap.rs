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

/// From now on, gives back to the kernel now and then what is free between what is in use, where the allocator is
/// glibc's. It gives back by itself only what is free at the end of its memory: a few small things that are kept, among
/// what many executions at once have taken and freed, otherwise hold twice the memory for good.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;
        use std::time::Duration;

        // It takes some ms for each 100 MiB, for which those wait who need memory meanwhile.
        const EVERY: Duration = Duration::from_secs(10);
        // By how many bytes, and by which part, it must have grown or fallen since.
        const MORE: u64 = 8 << 20;
        const PART: u64 = 16;
        // SAFETY: declared as in glibc's `malloc.h`. It takes any number, and may be called at any time.
        unsafe extern "C" {
            safe fn malloc_trim(pad: usize) -> c_int;
        }
        let look = || {
            let more = |than: u64| than + than / PART + MORE;
            let (mut least, mut most) = (0, 0);
            loop {
                std::thread::sleep(EVERY);
                let now = resident();
                most = now.max(most);
                // Where it has fallen, much was freed after it was last looked at, and what is between the rest stays.
                if now > more(least) || most > more(now) {
                    malloc_trim(0);
                    least = resident();
                    most = least;
                } else {
                    least = least.min(now);
                }
            }
        };
        // Without it, more memory is kept.
        let _ = std::thread::Builder::new().name("heap".into()).spawn(look);
    }
}

/// How much memory of this process is resident, in bytes; 0 where that cannot be read.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}
