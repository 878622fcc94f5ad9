//! What the kernel does where a file is to become larger than the process may make one.

#[cfg(unix)]
use std::mem::MaybeUninit;
#[cfg(unix)]
use std::sync::Once;

/// Has such a write fail (`EFBIG`), as on a disk that is full, in place of ending the process (`SIGXFSZ`): a guest may
/// write to what it was granted, and the limit (`RLIMIT_FSIZE`, as by `ulimit -f`) is on the process of its host. Where
/// something was set for the signal before this is first called, that holds.
pub(crate) fn have_writes_fail() {
    #[cfg(unix)]
    {
        static ONCE: Once = Once::new();
        ONCE.call_once(ignore_the_signal);
    }
}

#[cfg(unix)]
fn ignore_the_signal() {
    let (mut before, none) = (MaybeUninit::<libc::sigaction>::uninit(), std::ptr::null());
    // SAFETY: where it succeeds, it has written what is done about the signal now.
    let known = unsafe { libc::sigaction(libc::SIGXFSZ, none, before.as_mut_ptr()) };
    if known != 0 {
        return;
    }
    // SAFETY: it was written, as it succeeded.
    let before = unsafe { before.assume_init() };
    if before.sa_sigaction == libc::SIG_DFL {
        // SAFETY: to ignore a signal runs nothing, and does not fail for one that there is.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    }
}
