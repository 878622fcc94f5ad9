//! The signal by which a thread is interrupted, and what it does there.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod imp {
    use std::io;
    use std::mem::MaybeUninit;
    use std::sync::OnceLock;

    use libc::{c_int, c_void, pid_t, sigaction, siginfo_t, ucontext_t};

    use super::super::TURN;

    pub const SUPPORTED: bool = true;

    /// One that does nothing to a process that does not handle it, and that hardly any uses; Go's runtime has chosen it for the
    /// same purpose.
    const SIGNAL: c_int = libc::SIGURG;

    /// What handled the signal before.
    static BEFORE: OnceLock<sigaction> = OnceLock::new();

    /// A thread.
    pub struct Id(pid_t);

    impl Id {
        pub fn of_this_thread() -> Self {
            // SAFETY: it takes nothing, and cannot fail.
            Id(unsafe { libc::gettid() })
        }

        /// Sends it the signal. Should it have ended meanwhile, and another have its number, that one is interrupted, to no
        /// effect.
        pub fn interrupt(&self) {
            // SAFETY: the call takes three numbers. For a thread that is not there it does nothing.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.0, SIGNAL) };
        }
    }

    /// Sets the handler.
    pub fn handle() -> io::Result<()> {
        let mut before = MaybeUninit::<sigaction>::uninit();
        // SAFETY: where it succeeds, it has written what handled the signal before.
        let before = unsafe {
            if libc::sigaction(SIGNAL, std::ptr::null(), before.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            before.assume_init()
        };
        BEFORE.get_or_init(|| before);
        // SAFETY: a `sigaction` of zeros is one that handles nothing.
        let mut action: sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = interrupted as *const () as usize;
        // On the stack that threads have for signals: the guest's may be full. What it interrupts in the host goes on.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: `interrupted` is a handler as `SA_SIGINFO` demands one, and says itself why what it does may be done there.
        if unsafe { libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// The handler.
    ///
    /// # Safety
    ///
    /// SAFETY: called by the kernel alone, with what `SA_SIGINFO` promises, and by whoever has taken the signal over since and passes it
    /// on.
    ///
    /// Why it may do what it does, on a thread that may have been interrupted anywhere: unless the thread runs a guest, it only
    /// reads a variable of the thread, which needs nothing to be made for it. Where it does, and was interrupted in the host's
    /// code, it reads a clock by a system call besides (`Turn::interrupted`). Where it was interrupted in the guest's own code,
    /// it may do all that a function of the host may that the guest calls.
    ///
    /// Why the guest may be sent on to an instruction that traps: both are code of functions of one component, in which any
    /// instruction that traps may stand anywhere. The engine keeps no state of its own half changed there: what changes such
    /// state is called as a function of the host's, or stands in code that the engine makes between the two, which is
    /// not the guest's (`code.rs`). What it needs to unwind was set when the guest was entered, and its stack can be walked by
    /// the frame pointer, which points to a whole frame everywhere but in the beginning of a function (likewise). No registers
    /// are needed any more: nothing of the guest goes on, and the store is dropped. That instruction is one of which the engine
    /// knows that it traps; it handles the trap as if the guest had come there by itself.
    unsafe extern "C" fn interrupted(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        // SAFETY: the kernel gives both, and both are this call's own.
        let (info_of, context_of) = unsafe { (&*info, &mut *context.cast::<ucontext_t>()) };
        // SAFETY: a signal that was sent, as by `tgkill`, has a sender, and any other has something else there.
        let sender = unsafe { info_of.si_pid() };
        // SAFETY: it takes nothing, and cannot fail.
        let own = unsafe { libc::getpid() };
        let is_ours = info_of.si_code == libc::SI_TKILL && sender == own;
        if !is_ours {
            // SAFETY: it is handed on as it came.
            return unsafe { hand_on(signal, info, context) };
        }
        // SAFETY: the place of this thread's `errno`, which is kept for what was interrupted.
        let errno = unsafe { *libc::__errno_location() };
        let turn = TURN.get();
        if !turn.is_null() {
            // SAFETY: it is set while the turn is there, by this thread, which does not go on while this runs.
            let turn = unsafe { &*turn };
            let pc = &mut context_of.uc_mcontext.gregs[libc::REG_RIP as usize];
            if let Some(trap) = turn.interrupted(*pc as usize) {
                *pc = trap as i64;
            }
        }
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = errno };
    }

    /// Hands a signal that is not ours to what handled it before.
    ///
    /// # Safety
    ///
    /// SAFETY: called with what a handler was called with.
    unsafe fn hand_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        let Some(before) = BEFORE.get() else { return };
        let handler = before.sa_sigaction;
        // Otherwise nothing happens by this signal.
        if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
            return;
        }
        // SAFETY: it was set as a handler of the kind that its flags say.
        unsafe {
            if before.sa_flags & libc::SA_SIGINFO != 0 {
                let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                    std::mem::transmute(handler);
                handler(signal, info, context);
            } else {
                let handler: extern "C" fn(c_int) = std::mem::transmute(handler);
                handler(signal);
            }
        }
    }
}

/// Elsewhere a guest comes back by itself, or not at all.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod imp {
    use std::io;

    pub const SUPPORTED: bool = false;

    pub struct Id;

    impl Id {
        pub fn of_this_thread() -> Self {
            Id
        }

        pub fn interrupt(&self) {}
    }

    pub fn handle() -> io::Result<()> {
        Ok(())
    }
}

pub use imp::{Id, SUPPORTED, handle};
