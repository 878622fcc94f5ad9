//! The signal by which a thread is interrupted, and what it does there.

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod imp {
    use std::io;
    use std::mem::MaybeUninit;
    use std::sync::OnceLock;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use libc::{c_int, c_void, pid_t, sigaction, siginfo_t, sigset_t, ucontext_t};

    use super::super::TURN;

    pub const SUPPORTED: bool = true;

    /// One that does nothing to a process that does not handle it, and that hardly any uses; Go's runtime has chosen
    /// it for the same purpose.
    const SIGNAL: c_int = libc::SIGURG;

    /// What handled the signal before.
    static BEFORE: OnceLock<sigaction> = OnceLock::new();

    /// By its address our signals are told from those of others, which are handed on as well.
    static OURS: u8 = 0;

    /// A thread.
    pub struct Id(pid_t);

    /// What is sent with a signal: `siginfo_t` of Linux (`include/uapi/asm-generic/siginfo.h`), as a signal with a
    /// value has it.
    #[repr(C)]
    struct Sent {
        number: c_int,
        error: c_int,
        code: c_int,
        align: c_int,
        process: pid_t,
        user: libc::uid_t,
        value: *const u8,
        rest: [u64; 12],
    }

    const _: () = assert!(size_of::<Sent>() == size_of::<siginfo_t>());
    const _: () = assert!(std::mem::offset_of!(Sent, process) == 16);
    const _: () = assert!(std::mem::offset_of!(Sent, value) == 24);

    impl Id {
        pub fn of_this_thread() -> Self {
            // SAFETY: it takes nothing, and cannot fail.
            Id(unsafe { libc::gettid() })
        }

        /// Sends it the signal. Should it have ended meanwhile, and another have its number, that one is interrupted,
        /// to no effect.
        pub fn interrupt(&self) {
            // SAFETY: both take nothing, and cannot fail.
            let (process, user) = unsafe { (libc::getpid(), libc::getuid()) };
            let sent = Sent {
                number: SIGNAL,
                error: 0,
                code: libc::SI_QUEUE,
                align: 0,
                process,
                user,
                value: &raw const OURS,
                rest: [0; 12],
            };
            // SAFETY: the call takes three numbers and reads a `siginfo_t`, which is as large. For a thread that is
            // not there it does nothing.
            let done = unsafe {
                libc::syscall(
                    libc::SYS_rt_tgsigqueueinfo,
                    process,
                    self.0,
                    SIGNAL,
                    &raw const sent,
                )
            };
            if done != 0 {
                // Where that call is not allowed, one without a value does as well.
                // SAFETY: it takes three numbers.
                unsafe { libc::syscall(libc::SYS_tgkill, process, self.0, SIGNAL) };
            }
        }
    }

    /// How long this thread has had the processor for code of the process, without what the kernel did for it. A
    /// system call.
    pub fn user_time() -> Duration {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: it writes a `rusage` there, or nothing; one of zeros is one as well.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
            usage.assume_init()
        };
        let seconds = u64::try_from(usage.ru_utime.tv_sec).unwrap_or(0);
        let micros = u64::try_from(usage.ru_utime.tv_usec).unwrap_or(0);
        Duration::from_secs(seconds) + Duration::from_micros(micros)
    }

    /// Starts a thread that no signal of the process comes to.
    pub fn with_none<T>(start: impl FnOnce() -> T) -> T {
        let mut all = MaybeUninit::<sigset_t>::uninit();
        let mut before = MaybeUninit::<sigset_t>::uninit();
        // SAFETY: the first fills its set, and the second then reads it and writes the other. Neither fails with these
        // arguments.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        }
        // The thread has what this one has now.
        let started = start();
        // SAFETY: as it was written above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
        started
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
        // SAFETY: `interrupted` is a handler as `SA_SIGINFO` demands one, and says itself why what it does may be
        // done there.
        if unsafe { libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// The handler.
    ///
    /// # Safety
    ///
    /// SAFETY: called by the kernel alone, with what `SA_SIGINFO` promises, and by whoever has taken the signal over
    /// since and passes it on.
    ///
    /// Why it may do what it does, on a thread that may have been interrupted anywhere: unless the thread runs a
    /// guest, it only reads a variable of the thread, which needs nothing to be made for it. Where it does, and was
    /// interrupted in the host's code, it asks the kernel besides what time it is and what the thread had of it,
    /// reads in the component's image what is at that address, and writes numbers of the turn's and the skill's
    /// (`Turn::interrupted`). Where it was interrupted in the guest's own code, it may do all that a function of the
    /// host may that the guest calls.
    ///
    /// Why the guest may be sent on to an instruction that traps: both are code of functions of one component, in
    /// which any instruction that traps may stand anywhere, and a function that traps may be called. So what such
    /// code changes of the instance, as that of the engine between two components does, may be left as it is at any
    /// place. The engine's own state is changed by functions of the host's, and by code through which they are
    /// called, which is not of those (`code.rs`). What it needs to unwind was set when the guest was entered, and its
    /// stack can be walked by the frame pointer, which points to a whole frame everywhere but in the beginning of
    /// some functions (likewise). No registers are needed any more: nothing of the guest goes on, and the store is
    /// dropped. That instruction is one of which the engine knows that it traps; it handles the trap as if the guest
    /// had come there by itself.
    unsafe extern "C" fn interrupted(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        // A handler set since that passes the signal on may have been given neither.
        if info.is_null() || context.is_null() {
            return;
        }
        // SAFETY: the kernel gives both, and both are this call's own.
        let (info_of, context_of) = unsafe { (&*info, &mut *context.cast::<ucontext_t>()) };
        // SAFETY: it reads what a signal with a value has, and any other has something else there.
        let value = unsafe { info_of.si_value() };
        let is_ours = info_of.si_code == libc::SI_QUEUE
            && value.sival_ptr.cast_const().cast() == &raw const OURS;
        // SAFETY: the place of this thread's `errno`, which is kept for what was interrupted.
        let errno = unsafe { *libc::__errno_location() };
        let turn = TURN.with(|turn| turn.load(Ordering::Relaxed));
        if !turn.is_null() {
            // SAFETY: it is set while the turn is there, by this thread, which does not go on while this runs.
            let turn = unsafe { &*turn };
            #[cfg(target_arch = "x86_64")]
            let pc = &mut context_of.uc_mcontext.gregs[libc::REG_RIP as usize];
            #[cfg(target_arch = "aarch64")]
            let pc = &mut context_of.uc_mcontext.pc;
            if let Some(trap) = turn.interrupted(*pc as usize) {
                *pc = trap as _;
            }
            #[cfg(test)]
            tests::meddle();
        }
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = errno };
        // One that has lost what was sent with it, as where too many are waiting for others, has been as good as ours.
        if !is_ours && let Some(before) = BEFORE.get() {
            // SAFETY: it is handed on as it came.
            unsafe { hand_on(before, signal, info, context) };
        }
    }

    /// Hands a signal that is not ours to what handled it before.
    ///
    /// # Safety
    ///
    /// SAFETY: called with what a handler was called with.
    unsafe fn hand_on(
        before: &sigaction,
        signal: c_int,
        info: *mut siginfo_t,
        context: *mut c_void,
    ) {
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

    #[cfg(test)]
    mod tests {
        use std::sync::atomic::{AtomicI32, AtomicUsize};

        use super::*;

        static HEARD: AtomicI32 = AtomicI32::new(0);
        static ALSO: AtomicUsize = AtomicUsize::new(0);

        extern "C" fn plain(signal: c_int) {
            HEARD.fetch_add(signal, Ordering::Relaxed);
        }

        extern "C" fn with_more(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
            HEARD.fetch_add(signal, Ordering::Relaxed);
            ALSO.fetch_add(info.addr() + context.addr(), Ordering::Relaxed);
        }

        #[test]
        fn what_is_not_ours_is_handed_on() {
            handle().unwrap();
            // SAFETY: a `sigaction` of zeros is one that handles nothing.
            let mut before: sigaction = unsafe { std::mem::zeroed() };
            let mut hand = |handler: usize, flags| {
                before.sa_sigaction = handler;
                before.sa_flags = flags;
                let (info, context) = (std::ptr::without_provenance_mut(1), 2 as *mut c_void);
                // SAFETY: neither handler looks at what it is given.
                unsafe { hand_on(&before, SIGNAL, info, context) };
                (
                    HEARD.swap(0, Ordering::Relaxed),
                    ALSO.swap(0, Ordering::Relaxed),
                )
            };
            assert_eq!(hand(libc::SIG_DFL, 0), (0, 0));
            assert_eq!(hand(libc::SIG_IGN, 0), (0, 0));
            assert_eq!(hand(plain as *const () as usize, 0), (SIGNAL, 0));
            let more = with_more as *const () as usize;
            assert_eq!(hand(more, libc::SA_SIGINFO), (SIGNAL, 3));
            // One that another sends, to a process that did not handle it before: nothing comes of it.
            // SAFETY: it takes a number.
            assert_eq!(unsafe { libc::raise(SIGNAL) }, 0);
        }

        /// What the handler does may go wrong, and nobody looks at why.
        pub fn meddle() {
            // SAFETY: the place of this thread's `errno`.
            unsafe { *libc::__errno_location() = 78 };
        }

        #[test]
        fn ours_is_known_and_changes_nothing_elsewhere() {
            handle().unwrap();
            super::super::super::tests::within_a_turn(|| {
                // SAFETY: the place of this thread's `errno`.
                unsafe { *libc::__errno_location() = 77 };
                for _ in 0..100 {
                    Id::of_this_thread().interrupt();
                }
                // SAFETY: likewise.
                assert_eq!(unsafe { *libc::__errno_location() }, 77);
            });
            // A thread that is gone.
            let gone = std::thread::spawn(Id::of_this_thread).join().unwrap();
            gone.interrupt();
        }

        #[test]
        fn a_thread_that_no_signal_comes_to() {
            let blocked = || {
                let mut set = MaybeUninit::<sigset_t>::uninit();
                // SAFETY: it reads nothing, and writes the set.
                unsafe {
                    libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), set.as_mut_ptr());
                    libc::sigismember(set.as_ptr(), libc::SIGTERM) == 1
                }
            };
            let started = with_none(|| std::thread::spawn(blocked));
            assert!(started.join().unwrap());
            assert!(!blocked());
        }

        #[test]
        fn time_on_the_processor_goes_on() {
            let began = user_time();
            let now = std::time::Instant::now();
            while user_time() == began {
                assert!(now.elapsed() < Duration::from_secs(10));
            }
        }
    }
}

/// Elsewhere a guest comes back by itself, or not at all.
#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
mod imp {
    use std::io;
    use std::time::Duration;

    pub const SUPPORTED: bool = false;

    pub struct Id;

    impl Id {
        pub fn of_this_thread() -> Self {
            Id
        }

        pub fn interrupt(&self) {}
    }

    pub fn user_time() -> Duration {
        Duration::ZERO
    }

    pub fn with_none<T>(start: impl FnOnce() -> T) -> T {
        start()
    }

    pub fn handle() -> io::Result<()> {
        Ok(())
    }
}

pub use imp::{Id, SUPPORTED, handle, user_time, with_none};
