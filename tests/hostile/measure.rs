//! What the process holds, so that an attack that left something behind is seen: bytes on the heap,
//! counted by the allocator itself; resident and reserved memory; open files; threads, and whether they rest.
//!
//! All of it belongs to the process, so attacks are run one at a time: see [`alone`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::attack::ROUNDS;

/// Counts what it gives out.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn taken(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(held, Ordering::Relaxed);
}

// SAFETY: every call is handed on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        taken(size);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Has the process for itself for as long as it lives.
pub struct Alone(#[allow(dead_code, reason = "held, not used")] MutexGuard<'static, ()>);

thread_local! {
    static IS_ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Waits until a test has the process for itself. Each begins with it, before it makes anything.
pub fn alone() -> Alone {
    static ALONE: Mutex<()> = Mutex::new(());
    // An attack that failed its test leaves nothing half done that the next one would look at.
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    IS_ALONE.set(true);
    Alone(guard)
}

/// Checks that this test began with [`alone`].
pub fn check_alone() {
    assert!(
        IS_ALONE.get(),
        "begin the test with `let _alone = alone();`"
    );
}

impl Drop for Alone {
    fn drop(&mut self) {
        IS_ALONE.set(false);
    }
}

/// What the process holds at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Bytes on the heap.
    heap: usize,
    /// Anonymous memory that is resident, in bytes: guests' memories, stacks and the heap.
    resident: u64,
    /// Address space in bytes. A memory of the on-demand engine reserves more than 4 GiB of it.
    reserved: u64,
    /// Open files.
    files: usize,
    threads: usize,
}

impl Held {
    /// What is held now. The heap's peak counts from here.
    pub fn now() -> Self {
        #[cfg(target_env = "gnu")]
        // SAFETY: it may be called at any time, and touches free memory only.
        unsafe {
            libc::malloc_trim(0);
        }
        let heap = HELD.load(Ordering::Relaxed);
        PEAK.store(heap, Ordering::Relaxed);
        let status = fs::read_to_string("/proc/self/status").expect("the system is Linux");
        let kib = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let digits = line.and_then(|line| line.split_whitespace().next());
            digits.expect("it is there").parse().expect("a number")
        };
        Held {
            heap,
            resident: kib("RssAnon:") << 10,
            reserved: kib("VmSize:") << 10,
            files: fs::read_dir("/proc/self/fd").expect("it is there").count(),
            threads: threads().count(),
        }
    }

    /// How far the heap has grown since, at most, in bytes.
    pub fn heap_peak(&self) -> u64 {
        PEAK.load(Ordering::Relaxed).saturating_sub(self.heap) as u64
    }

    /// Whether all that was taken since came back, but for so many bytes of resident memory.
    fn came_back(&self, kept: u64) -> Result<(), String> {
        /// What the test runner's own threads may take meanwhile.
        const HEAP: usize = 256 << 10;
        /// A slot keeps up to 2 MiB for the next guest, and the heap does not give back every page.
        const RESIDENT: u64 = 8 << 20;
        /// Less than one memory of the on-demand engine. A thread's heap reserves 64 MiB.
        const RESERVED: u64 = 2 << 30;
        /// Pools grow when they have more to do than ever. Fewer than the executions of an attack, of which each would
        /// leave one.
        const THREADS: usize = ROUNDS - 1;
        let after = Held::now();
        let came_back = after.heap <= self.heap + HEAP
            && after.resident <= self.resident + RESIDENT + kept
            && after.reserved <= self.reserved + RESERVED
            && after.files <= self.files
            && after.threads <= self.threads + THREADS;
        match came_back {
            true => Ok(()),
            false => Err(format!(
                "something was left behind:\nbefore {self:?}\nafter  {after:?}"
            )),
        }
    }
}

/// The threads of this process.
fn threads() -> impl Iterator<Item = PathBuf> {
    let threads = fs::read_dir("/proc/self/task").expect("the system is Linux");
    threads.filter_map(|thread| Some(thread.ok()?.path()))
}

/// Waits until no other thread of this process computes any more. What an execution has others do when it has ended,
/// as giving memory back, takes them a moment.
fn comes_to_rest() -> Result<(), String> {
    /// What nothing takes that comes to an end.
    const A_MOMENT: Duration = Duration::from_secs(5);
    const LOOK: Duration = Duration::from_millis(1);
    let own = fs::read_link("/proc/thread-self").expect("the system is Linux");
    let own = own.file_name().expect("it is a number").to_owned();
    // Whether they run or wait for a processor, and what they have used of one.
    let computing = || -> Vec<String> {
        let stats = threads().filter_map(|thread| match thread.ends_with(&own) {
            true => None,
            // `number (name) state …`
            false => fs::read_to_string(thread.join("stat")).ok(),
        });
        let computes = |stat: &String| {
            stat.rsplit_once(") ")
                .is_some_and(|(_, state)| state.starts_with('R'))
        };
        stats.filter(computes).collect()
    };
    let used = || time_of(ClockId::ProcessCPUTime).saturating_sub(cpu_time());
    let began = Instant::now();
    loop {
        let before = used();
        let busy = computing();
        std::thread::sleep(LOOK);
        if busy.is_empty() && used().saturating_sub(before) < LOOK / 4 {
            return Ok(());
        }
        if began.elapsed() > A_MOMENT {
            return Err(format!("somebody still computes: {busy:?}"));
        }
    }
}

/// Checks that whatever this does, it leaves nothing behind, but for so many bytes of resident
/// memory, and that nobody goes on with anything.
#[track_caller]
pub fn check_leaves_nothing_but(kept: u64, mut attack: impl FnMut()) {
    for left in (0..3).rev() {
        let before = Held::now();
        attack();
        match comes_to_rest().and_then(|()| before.came_back(kept)) {
            Ok(()) => return,
            // Something of the process's own may have grown meanwhile, once. What an attack leaves
            // behind, it leaves behind each time.
            Err(_) if left > 0 => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// For how long the threads of this process have waited for a processor so far, all together.
pub fn waited_for_a_processor() -> Duration {
    let threads = fs::read_dir("/proc/self/task").expect("the system is Linux");
    let waited = threads.filter_map(|thread| {
        // One may have ended meanwhile. Where the kernel does not say, none has waited.
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    });
    Duration::from_nanos(waited.sum())
}

/// The processor time of writing so many bytes of fresh memory once: the longest of three.
pub fn time_to_write(bytes: u64) -> Duration {
    let bytes = usize::try_from(bytes).expect("it fits in memory");
    let once = || {
        let mut memory: Vec<u8> = Vec::with_capacity(bytes);
        let began = cpu_time();
        memory.resize(bytes, 1);
        std::hint::black_box(&memory);
        cpu_time() - began
    };
    once().max(once()).max(once())
}

fn cpu_time() -> Duration {
    time_of(ClockId::ThreadCPUTime)
}

fn time_of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).expect("it is positive"),
        u32::try_from(time.tv_nsec).expect("it is positive"),
    )
}

/// What an attack that leaves this behind each time is told.
fn left_behind(attack: impl FnMut()) -> String {
    let checked = std::panic::AssertUnwindSafe(|| check_leaves_nothing_but(0, attack));
    let panicked = std::panic::catch_unwind(checked).expect_err("it is noticed");
    *panicked.downcast::<String>().expect("it says what")
}

#[test]
fn bytes_that_stay_are_noticed() {
    let _alone = alone();
    let mut left = Vec::new();
    let said = left_behind(|| left.extend((0..300).map(|_| vec![1_u8; 1_000])));
    assert!(said.contains("something was left behind"), "{said}");
}

#[test]
fn threads_that_stay_are_noticed() {
    let _alone = alone();
    let over = Arc::new(AtomicBool::new(false));
    let mut left = Vec::new();
    let said = left_behind(|| {
        left.extend((0..ROUNDS).map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::thread::park();
                }
            })
        }));
    });
    over.store(true, Ordering::Relaxed);
    for thread in left {
        thread.thread().unpark();
        thread.join().expect("it does not panic");
    }
    assert!(said.contains("something was left behind"), "{said}");
}

#[test]
fn a_thread_that_goes_on_computing_is_noticed() {
    let _alone = alone();
    let over = Arc::new(AtomicBool::new(false));
    let computes = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            while !over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        }
    });
    let said = left_behind(|| {});
    over.store(true, Ordering::Relaxed);
    computes.join().expect("it does not panic");
    assert!(said.contains("somebody still computes"), "{said}");
}
