//! What tells the command to end: SIGTERM, and SIGHUP, which is the same to it.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::Poll;

use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::flag;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Whether there was one that is acted upon.
static CAME: AtomicBool = AtomicBool::new(false);
/// Whether somebody [waits](Terminations) for them.
static AWAITED: AtomicBool = AtomicBool::new(false);
/// Whether one ends the process where it arrives, as it does as long as nobody has a handler for it.
static ENDS: AtomicBool = AtomicBool::new(false);

/// Whether what was cancelled was so with one of them.
pub fn came() -> bool {
    CAME.load(Ordering::SeqCst)
}

/// The signals that tell the command to end. SIGHUP is none of them where it was ignored when the process was started,
/// such as by `nohup`: it stays ignored then.
pub fn signals() -> &'static [c_int] {
    const BOTH: &[c_int] = &[SIGTERM, SIGHUP];
    // Once somebody has a handler for it, it is no longer to be seen.
    static HANGUP_IGNORED: OnceLock<bool> = OnceLock::new();
    match HANGUP_IGNORED.get_or_init(|| is_ignored(SIGHUP)) {
        true => &BOTH[..1],
        false => BOTH,
    }
}

fn is_ignored(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: null sets nothing, and what is set is written to a place that is as large.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeros are one, as it is a structure of C's, and so is what was written over them.
    let action = unsafe { action.assume_init() };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Hears of them, for whoever waits. SIGHUP is heard of once: a terminal that is closed sends it, and so does the shell that
/// was in it.
pub struct Terminations(Vec<(c_int, Signal)>);

impl Terminations {
    /// From now on, none of them ends the process by itself.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn listen() -> io::Result<Self> {
        let listened = signals().iter();
        let listened = listened
            .map(|number| signal(SignalKind::from_raw(*number)).map(|signal| (*number, signal)));
        let terminations = Terminations(listened.collect::<io::Result<_>>()?);
        AWAITED.store(true, Ordering::SeqCst);
        ENDS.store(false, Ordering::SeqCst);
        Ok(terminations)
    }

    /// The next one.
    pub async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let came = |(_, signal): &mut (c_int, Signal)| {
                matches!(signal.poll_recv(context), Poll::Ready(Some(())))
            };
            let Some(at) = self.0.iter_mut().position(came) else {
                return Poll::Pending;
            };
            if self.0[at].0 == SIGHUP {
                drop(self.0.remove(at));
            }
            Poll::Ready(())
        })
        .await;
        CAME.store(true, Ordering::SeqCst);
    }
}

/// Has them noted, for whoever looks [whether one came](came), for as long as it lives. Afterwards they do what they do by
/// themselves, as a signal that once had a handler is not given back to the system.
pub struct Noted(());

impl Noted {
    /// From now on, none of them ends the process by itself.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn begin() -> io::Result<Self> {
        static HANDLED: Mutex<bool> = Mutex::new(false);
        let mut handled = HANDLED.lock().unwrap_or_else(PoisonError::into_inner);
        ENDS.store(false, Ordering::SeqCst);
        if !*handled {
            for &signal in signals() {
                flag::register_conditional_default(signal, &ENDS)?;
                flag::register(signal, &CAME)?;
            }
            *handled = true;
        }
        Ok(Noted(()))
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        // Where one came, the command ends because of that, and may say so.
        let ends = !AWAITED.load(Ordering::SeqCst) && !came();
        ENDS.store(ends, Ordering::SeqCst);
    }
}
