//! What the kernel does where a file is to become larger than the process may make one.

#[cfg(unix)]
use std::mem::MaybeUninit;

/// Has such a write fail (`EFBIG`), as on a disk that is full, in place of ending the process (`SIGXFSZ`): a guest may
/// write to what it was granted, and the limit (`RLIMIT_FSIZE`, as by `ulimit -f`) is on the process of its host. Where
/// something else was set for the signal, that holds.
pub(crate) fn have_writes_fail() {
    #[cfg(unix)]
    {
        let mut before = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: the signal exists; where it succeeds, it has written what is done about the signal now.
        let is_known =
            unsafe { libc::sigaction(libc::SIGXFSZ, std::ptr::null(), before.as_mut_ptr()) == 0 };
        // SAFETY: it was written, as was just asked.
        if is_known && unsafe { before.assume_init() }.sa_sigaction == libc::SIG_DFL {
            // SAFETY: to ignore a signal runs nothing. It cannot fail for one that exists.
            unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        }
    }
}
