//! Lets through, a few at a time, those that keep their threads for long.
//!
//! A guest can be made to compute for just less than what it is stopped after (`preempt.rs`), again and again; and
//! some of what the host does for a guest takes as long. Enough of them would keep all threads. So a skill that was
//! seen to keep a thread for [`long`] at a stretch is known for that for a [`WHILE`], and of the guests of all such
//! skills no more run at any moment than half as many as the runtime has threads (or as there are processors, where
//! those are fewer), and one at least. The others have the rest, where there is one: a runtime with a single thread is
//! kept by one of them at a time. Where there are no signals for it (`preempt::SUPPORTED`), no skill is ever known.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

/// How much processor time is long, of a guest that is stopped after so much without a look at the clock, from where it is
/// first interrupted ([`preempt::TICK`](super::preempt)): 12.5 ms, and 6 ms in a crowd; so some 18 and 11 ms of a
/// stretch. That is more than two or one of the kernel's ticks, by which it may tell, and which take what they find for
/// all that was since the last (4 ms at 250 Hz). It is what the guest computes, and the host for it, and not what the
/// kernel does, which takes as long where much memory is touched for the first time. The slowest guests that compilers
/// make take some 8 to 10 ms from one look to the next, and 2 ms in a crowd, where looks are closer to each other
/// (`fuel.rs`): they are interrupted once or twice, and are not to be taken for those that keep a thread on purpose, nor
/// are the other executions of their skills (`cargo bench --bench beside`).
pub(in crate::sandbox) fn long(kept: Duration) -> Duration {
    (kept / 16).max(Duration::from_millis(6))
}

/// After how long whoever waits asks again by itself: one that was woken and that nobody polls keeps the gate from
/// nobody.
pub(super) const AGAIN: Duration = Duration::from_millis(10);
/// After how long without having asked it has gone.
const GONE: Duration = Duration::from_millis(100);
/// How long a skill is known for that.
const WHILE: Duration = Duration::from_secs(60);

/// Whether a skill is known to keep its thread for long.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Known {
    /// Until when, in nanoseconds since [`BEGAN`]; 0 where it never was.
    until: AtomicU64,
}

/// Where times are counted from.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A time in nanoseconds since then.
pub(super) fn since_began(time: Instant) -> u64 {
    let since = time.saturating_duration_since(*BEGAN).as_nanos();
    u64::try_from(since).unwrap_or(u64::MAX)
}

impl Known {
    /// It has kept one. May be called where a signal is handled, once [`Known::prepare`] was called.
    pub fn note(&self, now: Instant) {
        self.until
            .fetch_max(since_began(now + WHILE), Ordering::Relaxed);
    }

    pub fn is(&self, now: Instant) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until != 0 && since_began(now) < until
    }

    /// So that nothing is made when it is first needed.
    pub fn prepare() {
        LazyLock::force(&BEGAN);
    }
}

/// How many that have passed run at this moment, in this process.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Whether any of those that keep their threads runs on this runtime, but for one that asks and has passed itself.
pub(super) fn others_run(has_passed: bool) -> bool {
    let but = usize::from(has_passed);
    // Mostly there is none at all.
    RUNNING.load(Ordering::Relaxed) > but
        && gate_here().is_some_and(|gate| gate.inner().running > but)
}

fn gate_here() -> Option<Arc<Gate>> {
    let runtime = tokio::runtime::Handle::try_current().ok()?.id();
    let gates = GATES.lock().unwrap_or_else(PoisonError::into_inner);
    let found = gates.iter().find(|(id, _)| *id == runtime);
    found.and_then(|(_, gate)| gate.upgrade())
}

/// The gate of each runtime, for as long as anybody waits there or has passed.
static GATES: Mutex<Vec<(tokio::runtime::Id, Weak<Gate>)>> = Mutex::new(Vec::new());

/// Asked once: the system's answer is in files.
static PROCESSORS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));

/// The gate of the runtime that this is called in: half of its threads, or of the processors where there are fewer of
/// those. Where it has one only, so has its gate.
pub(super) fn here() -> Arc<Gate> {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return Arc::new(Gate::new(1));
    };
    let mut gates = GATES.lock().unwrap_or_else(PoisonError::into_inner);
    gates.retain(|(_, gate)| gate.strong_count() > 0);
    let found = gates.iter().find(|(id, _)| *id == runtime.id());
    if let Some(gate) = found.and_then(|(_, gate)| gate.upgrade()) {
        return gate;
    }
    let most = most(runtime.metrics().num_workers(), *PROCESSORS);
    let gate = Arc::new(Gate::new(most));
    gates.push((runtime.id(), Arc::downgrade(&gate)));
    gate
}

/// How many pass at a time, on so many threads.
fn most(threads: usize, processors: usize) -> usize {
    (threads.min(processors) / 2).max(1)
}

pub(super) struct Gate {
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    running: usize,
    /// How many have come.
    came: u64,
    /// Those that wait, in the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    /// Those that were woken, and until when the room that there is is kept for each.
    woken: Vec<(u64, Instant)>,
}

struct Waiting {
    waker: Waker,
    /// When it last asked.
    asked: Instant,
}

impl Inner {
    /// Whether there is room, but for what is kept for others than this one.
    fn has_room(&mut self, most: usize, of: Option<u64>, now: Instant) -> bool {
        self.woken.retain(|(_, until)| now < *until);
        let others = self.woken.iter().filter(|(number, _)| Some(*number) != of);
        self.running + others.count() < most
    }

    /// Whether any waits that one that comes now is behind. One that nobody polls any more does not ask again.
    fn is_waited(&self, now: Instant) -> bool {
        let asks = |one: &Waiting| now.saturating_duration_since(one.asked) < GONE;
        self.waiting.values().any(asks)
    }

    /// Takes this one out of those that wait or were woken, if it is there.
    fn take(&mut self, number: u64) -> Option<Waiting> {
        self.woken.retain(|(woken, _)| *woken != number);
        self.waiting.remove(&number)
    }
}

/// The place of one that waits at a gate. It is kept until it is let through.
pub(super) struct Place {
    gate: Arc<Gate>,
    number: u64,
}

/// Whoever holds it runs.
pub(super) struct Passage(Arc<Gate>);

impl Passage {
    /// Whether any waits for it.
    pub fn is_waited_for(&self) -> bool {
        !self.0.inner().waiting.is_empty()
    }
}

/// Lets one through at the gate where it has its place, or else at the one of this runtime; or has it wait until it
/// is its turn: then it is woken, and asks again.
pub(super) fn pass(place: &mut Option<Place>, waker: &Waker) -> Option<Passage> {
    let gate = match place {
        Some(place) => Arc::clone(&place.gate),
        None => here(),
    };
    gate.pass(place, waker)
}

impl Gate {
    fn new(most: usize) -> Self {
        Gate {
            most,
            inner: Mutex::default(),
        }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Nothing that panics is done with it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(self: &Arc<Self>, place: &mut Option<Place>, waker: &Waker) -> Option<Passage> {
        let mut inner = self.inner();
        let number = place.as_ref().map(|place| place.number);
        let now = Instant::now();
        let is_behind = number.is_none() && inner.is_waited(now);
        if inner.has_room(self.most, number, now) && !is_behind {
            inner.running += 1;
            RUNNING.fetch_add(1, Ordering::Relaxed);
            let waited = number.and_then(|number| inner.take(number));
            drop(inner);
            // A waker may be all that is left of a task, with another place.
            drop(waited);
            *place = None;
            return Some(Passage(Arc::clone(self)));
        }
        let number = number.unwrap_or_else(|| {
            inner.came += 1;
            inner.came
        });
        let waiting = Waiting {
            waker: waker.clone(),
            asked: now,
        };
        let before = inner.waiting.insert(number, waiting);
        drop(inner);
        drop(before);
        if is_behind {
            // One before it may not have come when it was its turn.
            self.wake_next();
        }
        if place.is_none() {
            let gate = Arc::clone(self);
            *place = Some(Place { gate, number });
        }
        None
    }

    /// Wakes the next one, if there is room. That is kept for it for a while only: it may not come.
    fn wake_next(&self) {
        let next = {
            let mut inner = self.inner();
            let now = Instant::now();
            let has_room = inner.has_room(self.most, None, now);
            let next = has_room.then(|| inner.waiting.pop_first()).flatten();
            if let Some((number, _)) = &next {
                inner.woken.push((*number, now + AGAIN));
            }
            next
        };
        if let Some((_, next)) = next {
            next.waker.wake();
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.0.inner().running -= 1;
        RUNNING.fetch_sub(1, Ordering::Relaxed);
        self.0.wake_next();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let waited = self.gate.inner().take(self.number);
        // It may have been woken, and will not come: another does in its place.
        if waited.is_none() {
            self.gate.wake_next();
        }
    }
}

/// One that has passed at a gate of its own.
#[cfg(test)]
pub(super) fn others_that_run() -> Option<Passage> {
    Arc::new(Gate::new(1)).pass(&mut None, Waker::noop())
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Counted {
        fn new() -> (Arc<Self>, Waker) {
            let counted = Arc::new(Counted::default());
            (Arc::clone(&counted), Waker::from(counted))
        }

        fn times(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn less_is_long_in_a_crowd() {
        let of = |millis| long(Duration::from_millis(millis)).as_millis();
        assert_eq!([200, 150, 50, 0].map(of), [12, 9, 6, 6]);
    }

    #[test]
    fn what_kept_its_thread_is_known_for_a_while() {
        Known::prepare();
        let known = Known::default();
        let now = Instant::now();
        assert!(!known.is(now));
        known.note(now);
        assert!(known.is(now) && known.is(now + WHILE / 2));
        assert!(!known.is(now + WHILE + Duration::from_millis(1)));
        // One that was noted before does not shorten it.
        known.note(now + WHILE);
        known.note(now);
        assert!(known.is(now + WHILE));
    }

    #[test]
    fn they_go_through_in_the_order_in_which_they_came() {
        let gate = Arc::new(Gate::new(1));
        let (one, two, three) = (Counted::new(), Counted::new(), Counted::new());
        let [mut a, mut b, mut c] = [None, None, None];
        let first = gate.pass(&mut a, &one.1);
        assert!(first.is_some() && a.is_none());
        assert!(gate.pass(&mut b, &two.1).is_none());
        assert!(gate.pass(&mut c, &three.1).is_none());
        assert!(first.as_ref().is_some_and(Passage::is_waited_for));
        // To ask again changes nothing.
        assert!(gate.pass(&mut b, &two.1).is_none());
        drop(first);
        assert_eq!((two.0.times(), three.0.times()), (1, 0));
        let second = gate.pass(&mut b, &two.1);
        assert!(second.is_some());
        drop(second);
        assert_eq!((two.0.times(), three.0.times()), (1, 1));
        let third = gate.pass(&mut c, &three.1);
        assert!(third.is_some_and(|third| !third.is_waited_for()));
    }

    #[test]
    fn whoever_was_woken_and_comes_late_keeps_its_place() {
        let gate = Arc::new(Gate::new(1));
        let (woken, other) = (Counted::new(), Counted::new());
        let [mut a, mut b, mut c] = [None, None, None];
        let first = gate.pass(&mut a, &woken.1);
        assert!(gate.pass(&mut b, &woken.1).is_none());
        drop(first);
        // Nobody is let in before it, for a while; which does not pass here by itself.
        for (_, until) in &mut gate.inner().woken {
            *until += WHILE;
        }
        assert!(gate.pass(&mut a, &other.1).is_none());
        a = None;
        for (_, until) in &mut gate.inner().woken {
            *until = Instant::now();
        }
        let faster = gate.pass(&mut a, &other.1);
        assert!(faster.is_some());
        assert!(gate.pass(&mut c, &other.1).is_none());
        assert!(gate.pass(&mut b, &woken.1).is_none());
        drop(faster);
        assert_eq!((woken.0.times(), other.0.times()), (2, 0));
    }

    #[test]
    fn whoever_was_woken_and_does_not_come_wakes_the_next() {
        let gate = Arc::new(Gate::new(1));
        let (gone, next) = (Counted::new(), Counted::new());
        let [mut a, mut b, mut c] = [None, None, None];
        let first = gate.pass(&mut a, &gone.1);
        assert!(gate.pass(&mut b, &gone.1).is_none());
        assert!(gate.pass(&mut c, &next.1).is_none());
        drop(first);
        assert_eq!((gone.0.times(), next.0.times()), (1, 0));
        drop(b);
        assert_eq!(next.0.times(), 1);
        // One that goes before it is woken wakes nobody.
        let holds = gate.pass(&mut c, &next.1);
        assert!(holds.is_some() && gate.pass(&mut a, &gone.1).is_none());
        drop(a);
        drop(holds);
        assert_eq!((gone.0.times(), next.0.times()), (1, 1));
    }

    /// However many come meanwhile.
    #[test]
    fn whoever_comes_is_behind_those_that_wait() {
        let gate = Arc::new(Gate::new(1));
        let (waits, newcomer) = (Counted::new(), Counted::new());
        let [mut a, mut b, mut c] = [None, None, None];
        let first = gate.pass(&mut a, &waits.1);
        assert!(gate.pass(&mut b, &waits.1).is_none());
        drop(first);
        assert_eq!(waits.0.times(), 1);
        // It is late, and asks too late: another has come, and gone.
        gate.inner().woken.clear();
        let faster = gate.pass(&mut a, &newcomer.1);
        assert!(faster.is_some() && gate.pass(&mut b, &waits.1).is_none());
        // There is room, and nobody was told.
        gate.inner().running = 0;
        for waiting in gate.inner().waiting.values_mut() {
            waiting.asked += WHILE;
        }
        assert!(gate.pass(&mut c, &newcomer.1).is_none());
        assert_eq!((waits.0.times(), newcomer.0.times()), (2, 0));
        let passed = gate.pass(&mut b, &waits.1);
        assert!(passed.is_some());
        gate.inner().running = 2;
        drop((passed, faster));
        assert_eq!(newcomer.0.times(), 1);
    }

    #[test]
    fn whoever_does_not_ask_again_keeps_nobody() {
        let gate = Arc::new(Gate::new(1));
        let (gone, newcomer) = (Counted::new(), Counted::new());
        let [mut a, mut b] = [None, None];
        let first = gate.pass(&mut a, &gone.1);
        assert!(gate.pass(&mut b, &gone.1).is_none());
        for waiting in gate.inner().waiting.values_mut() {
            waiting.asked -= GONE;
        }
        gate.inner().running = 0;
        let passed = gate.pass(&mut a, &newcomer.1);
        assert!(passed.is_some());
        gate.inner().running = 2;
        drop((passed, first));
    }

    #[test]
    fn as_many_go_through_as_may() {
        let gate = Arc::new(Gate::new(2));
        let (_, waker) = Counted::new();
        let mut passed: Vec<_> = (0..3).map(|_| gate.pass(&mut None, &waker)).collect();
        assert_eq!(passed.iter().flatten().count(), 2);
        passed.clear();
        let passed: Vec<_> = (0..3).map(|_| gate.pass(&mut None, &waker)).collect();
        assert_eq!(passed.iter().flatten().count(), 2);
    }

    #[test]
    fn half_of_the_threads_are_kept_free() {
        let of = [(1, 8), (2, 8), (3, 8), (4, 8), (64, 8), (64, 1), (5, 5)];
        let most = of.map(|(threads, processors)| most(threads, processors));
        assert_eq!(most, [1, 1, 1, 2, 4, 1, 2]);
    }

    /// It is the same for all of a runtime, until nobody has it.
    #[test]
    fn each_runtime_has_its_gate() {
        for threads in [1, 2, 64] {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(threads)
                .build()
                .unwrap();
            let _inside = runtime.enter();
            assert!(!others_run(false));
            let gate = here();
            assert_eq!(gate.most, most(threads, *PROCESSORS));
            assert!(Arc::ptr_eq(&gate, &here()));
            let kept = Arc::downgrade(&gate);
            let (_, waker) = Counted::new();
            let passage = pass(&mut None, &waker);
            drop(gate);
            assert!(passage.is_some() && kept.strong_count() == 1);
            // Others count, and those of other runtimes do not.
            assert!(others_run(false) && !others_run(true));
            let mut elsewhere = tokio::runtime::Builder::new_current_thread();
            elsewhere.build().unwrap().block_on(async {
                assert!(!others_run(false));
            });
            drop(passage);
            assert!(!others_run(false));
            assert_eq!(kept.strong_count(), 0);
        }
    }
}
