//! What the process holds, so that an attack that left something behind is seen: bytes on the heap,
//! counted by the allocator itself; resident and reserved memory; open files.
//!
//! All of it belongs to the process, so attacks are run one at a time: see [`alone`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

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
        let after = Held::now();
        let came_back = after.heap <= self.heap + HEAP
            && after.resident <= self.resident + RESIDENT + kept
            && after.reserved <= self.reserved + RESERVED
            && after.files <= self.files;
        match came_back {
            true => Ok(()),
            false => Err(format!(
                "something was left behind:\nbefore {self:?}\nafter  {after:?}"
            )),
        }
    }
}

/// Checks that whatever this does, it leaves nothing behind, but for so many bytes of resident
/// memory.
#[track_caller]
pub fn check_leaves_nothing_but(kept: u64, mut attack: impl FnMut()) {
    for left in (0..3).rev() {
        let before = Held::now();
        attack();
        match before.came_back(kept) {
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
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).expect("it is positive"),
        u32::try_from(time.tv_nsec).expect("it is positive"),
    )
}
