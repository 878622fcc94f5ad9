//! Whether a thread has had its processor all along, without asking the kernel.
//!
//! Linux lets each thread register an area (restartable sequences; `include/uapi/linux/rseq.h`), and glibc from 2.35 on
//! does so for every thread. In it a thread may name a piece of code, a *section*. Where the kernel takes the thread
//! off its processor, or hands it a signal, and the thread was not in that piece, the kernel wipes the name. So the name
//! of a section without any instruction, where it still stands, says that nothing of the kind has happened since.

#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "x86_64",
    target_pointer_width = "64"
))]
mod imp {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};
    use std::time::Duration;

    /// `struct rseq_cs`, and what it refers to. It is never freed, as it may be named by threads that live on when this
    /// library is unloaded.
    #[repr(C, align(32))]
    struct Section {
        version: u32,
        flags: u32,
        start_ip: u64,
        post_commit_offset: u64,
        abort_ip: u64,
        /// Stands before the place that `abort_ip` names, as the kernel demands.
        signature: u32,
        place: u32,
    }

    /// The beginning of `struct rseq`.
    #[repr(C)]
    struct Area {
        cpu_id_start: AtomicU32,
        cpu_id: AtomicU32,
        rseq_cs: AtomicU64,
    }

    /// `RSEQ_SIG` on x86, with which glibc registers.
    const SIGNATURE: u32 = 0x5305_3053;

    /// Tells whether the calling thread was interrupted.
    #[derive(Clone, Copy)]
    pub struct Watch {
        /// Where the area of a thread lies, from its thread pointer.
        offset: isize,
        /// The section's address.
        section: u64,
    }

    impl Watch {
        /// `None` where the kernel, or the C library, has it not, or where it does not work.
        pub fn get() -> Option<Watch> {
            static WATCH: OnceLock<Option<Watch>> = OnceLock::new();
            *WATCH.get_or_init(|| Watch::find().filter(Watch::works))
        }

        fn find() -> Option<Watch> {
            // SAFETY: the names end with zeros, and no library is loaded or unloaded by that.
            let (offset, size) = unsafe {
                (
                    libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()),
                    libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr()),
                )
            };
            if offset.is_null() || size.is_null() {
                return None;
            }
            // SAFETY: glibc's, which are constants of these types (`sys/rseq.h`) from before `main` on.
            let (offset, size) = unsafe { (*offset.cast::<isize>(), *size.cast::<u32>()) };
            // It is 0 where glibc has not registered the area.
            if (size as usize) < size_of::<Area>() {
                return None;
            }
            let section = Box::leak(Box::new(Section {
                version: 0,
                flags: 0,
                start_ip: 0,
                // No instruction, so that none is ever aborted.
                post_commit_offset: 0,
                abort_ip: 0,
                signature: SIGNATURE,
                place: 0,
            }));
            let place = std::ptr::from_ref(&section.place) as u64;
            section.start_ip = place;
            section.abort_ip = place;
            Some(Watch {
                offset,
                section: std::ptr::from_ref(section) as u64,
            })
        }

        /// Whether the kernel does wipe the name of a thread that sleeps.
        fn works(&self) -> bool {
            // A sleep can be over before it began.
            self.begin()
                && (0..10).any(|_| {
                    std::thread::sleep(Duration::from_micros(50));
                    !self.holds()
                })
        }

        /// Begins to watch. `false` where this thread cannot be watched.
        #[inline]
        pub fn begin(&self) -> bool {
            let area = self.area();
            // Negative where the area of this thread is not registered.
            if area.cpu_id.load(Ordering::Relaxed).cast_signed() < 0 {
                return false;
            }
            area.rseq_cs.store(self.section, Ordering::Relaxed);
            // What is read after it stays after it.
            compiler_fence(Ordering::SeqCst);
            true
        }

        /// Whether this thread has had its processor ever since it began to watch.
        #[inline]
        pub fn holds(&self) -> bool {
            compiler_fence(Ordering::SeqCst);
            self.area().rseq_cs.load(Ordering::Relaxed) == self.section
        }

        /// The area of this thread. It is not to be kept beyond the thread's life.
        #[inline]
        fn area(&self) -> &Area {
            let thread: *const u8;
            // SAFETY: on x86-64 the first word that `fs` points to is its own address, for every thread that glibc
            // knows (System V ABI, thread-local storage); nothing is written.
            unsafe {
                std::arch::asm!(
                    "mov {}, fs:0", out(reg) thread,
                    options(nostack, preserves_flags, readonly)
                );
            }
            // SAFETY: `__rseq_offset` from there lies this thread's area, of at least the size that was looked at, for as
            // long as the thread lives, and aligned to 32 bytes. The kernel and others of this thread change it, so all
            // of it is atomic. Writing `rseq_cs` is what it is for: it names a section that is never freed and is as the
            // kernel demands it. Whoever else of this process uses it sets it whenever it enters a section of its own, and
            // is not in one while this runs.
            unsafe { &*thread.offset(self.offset).cast::<Area>() }
        }
    }
}

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "x86_64",
    target_pointer_width = "64"
)))]
mod imp {
    /// Cannot tell.
    #[derive(Clone, Copy)]
    pub enum Watch {}

    impl Watch {
        /// There is none.
        pub fn get() -> Option<Watch> {
            None
        }

        /// Cannot be asked.
        pub fn begin(&self) -> bool {
            match *self {}
        }

        /// Cannot be asked.
        pub fn holds(&self) -> bool {
            match *self {}
        }
    }
}

pub(super) use imp::Watch;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Watch;

    #[test]
    fn a_thread_that_slept_was_interrupted() {
        let Some(watch) = Watch::get() else {
            // Glibc 2.36 and Linux 4.18, on which this is developed, have it.
            assert!(std::env::var_os("CI").is_none(), "there is none");
            return;
        };
        for _ in 0..100 {
            assert!(watch.begin());
            std::thread::sleep(Duration::from_millis(1));
            assert!(!watch.holds());
        }
        // Now and then it is interrupted here, and not always.
        let held = (0..1_000).filter(|_| watch.begin() && watch.holds());
        assert!(held.count() > 500);
        // A thread of its own.
        let other = std::thread::spawn(move || watch.begin());
        assert!(other.join().unwrap());
    }
}
