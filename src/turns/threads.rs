//! Threads for what blocks or computes for long, bounded in number: nothing waits for them when the host goes, and
//! whoever waits for one waits in turns between tenants, or skills without one, so that what one of them wants is
//! not in the way of others'.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread::Builder;
use std::time::Duration;

use tokio::sync::oneshot;

use super::line::{Line, Ticket, Whose};
use super::{ANYTHING, Party, Places};

/// For how long a thread without anything to do stays.
const IDLE: Duration = Duration::from_secs(10);

/// A bounded pool of threads, which are made as they are needed.
pub(crate) struct Threads(Arc<Pool>);

/// What the threads of a pool are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// The first 15 bytes of it are what the system shows.
    pub name: &'static str,
    /// How many do something at a time.
    pub threads: u32,
    /// How many of them for one party.
    pub each: u32,
    /// How much may wait for one.
    pub max_waiting: u32,
    /// The stack of each, in bytes; `None` for what threads have anyway.
    pub stack_bytes: Option<usize>,
}

/// What is done, and what waits for a thread.
struct Pool {
    kind: Kind,
    state: Mutex<State>,
    /// Something was handed to a thread that idles, or all are to go.
    handed: Condvar,
}

#[derive(Default)]
struct State {
    line: Line<Job>,
    /// What has its place, and is to be begun by whichever thread comes first.
    handed: VecDeque<(Job, Option<Whose>)>,
    /// Threads without anything to do.
    idle: usize,
    gone: bool,
}

type Job = Box<dyn FnOnce() + Send>;

impl Pool {
    /// Nothing is done or dropped under the lock that is not the pool's own.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> Places {
        Places {
            all: self.kind.threads,
            each: Some(self.kind.each),
        }
    }

    /// What a thread does: whatever is handed to it, and then whatever is next in the line.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some((job, whose)) = state.handed.pop_front() {
                drop(state);
                // None of them panics; if one did, its place would be lost.
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = self.lock();
                state.line.finish(whose.as_ref());
                if let Some((job, whose)) = state.line.next(&self.places()) {
                    state.handed.push_front((job, Some(whose)));
                }
                continue;
            }
            if state.gone {
                return;
            }
            state.idle += 1;
            let waited = self.handed.wait_timeout(state, IDLE);
            let (woken, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.handed.is_empty() {
                return;
            }
        }
    }
}

/// Something on its way. Where this is dropped before a thread has begun it, it is not
/// done at all, unless it is to be done to its end; what was begun goes on to its end.
pub(crate) struct Doing<T> {
    done: oneshot::Receiver<std::thread::Result<T>>,
    /// Where it waits, until it is taken out.
    waits: Option<(Arc<Pool>, Ticket)>,
}

/// Why nothing came of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undone {
    Panicked,
    /// The host is going, and its threads with it.
    Gone,
}

impl<T> Future for Doing<T> {
    type Output = Result<T, Undone>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(Pin::new(&mut self.done).poll(context));
        self.waits = None;
        Poll::Ready(match done {
            Ok(done) => done.map_err(|_| Undone::Panicked),
            Err(_) => Err(Undone::Gone),
        })
    }
}

impl<T> Drop for Doing<T> {
    fn drop(&mut self) {
        if let Some((pool, ticket)) = self.waits.take() {
            let job = pool.lock().line.leave(&ticket);
            // What it holds may have something to be done in turn, once the lock is free.
            drop(job);
        }
    }
}

impl Threads {
    /// A pool that has none yet.
    pub fn new(kind: Kind) -> Self {
        Threads(Arc::new(Pool {
            kind,
            state: Mutex::default(),
            handed: Condvar::new(),
        }))
    }

    /// Does something, unless nobody waits for it any more when a thread is free.
    ///
    /// # Errors
    /// Where no thread can be had, or too much waits for one.
    pub fn spawn<T: Send + 'static>(
        &self,
        party: &Party,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Doing<T>> {
        let (done, doing) = oneshot::channel();
        let job: Job = Box::new(move || {
            if !done.is_closed() {
                let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
            }
        });
        let ticket = self.begin(party, job, self.0.kind.max_waiting)?;
        Ok(Doing {
            done: doing,
            waits: ticket.map(|ticket| (Arc::clone(&self.0), ticket)),
        })
    }

    /// Does something, whether or not anybody waits for it, and however much waits already.
    ///
    /// # Errors
    /// Where no thread can be had.
    pub fn spawn_to_end<T: Send + 'static>(
        &self,
        party: &Party,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Doing<T>> {
        let (done, doing) = oneshot::channel();
        let job: Job = Box::new(move || {
            let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
        });
        self.begin(party, job, u32::MAX)?;
        Ok(Doing {
            done: doing,
            waits: None,
        })
    }

    /// Begins something, or has it wait where no more than so many do already.
    fn begin(&self, party: &Party, job: Job, max_waiting: u32) -> io::Result<Option<Ticket>> {
        let pool = &self.0;
        let mut state = pool.lock();
        // Whoever waits does so because there is no thread: each that ends takes on the next.
        let Some(whose) = (state.line).start(party.name(), ANYTHING, &pool.places()) else {
            if state.line.waiting() >= max_waiting {
                drop(state);
                return Err(rustix::io::Errno::BUSY.into());
            }
            return Ok(Some(state.line.wait(party.name(), ANYTHING, job)));
        };
        let idles = state.idle > state.handed.len();
        state.handed.push_back((job, whose));
        if idles {
            drop(state);
            pool.handed.notify_one();
            return Ok(None);
        }
        // Under the lock, so that nobody begins to wait for the place if no thread can be had.
        let Err(error) = pool.thread() else {
            return Ok(None);
        };
        let given_back = state.handed.pop_back();
        if let Some((_, whose)) = &given_back {
            state.line.finish(whose.as_ref());
        }
        drop(state);
        drop(given_back);
        Err(error)
    }
}

impl Pool {
    /// One thread more.
    fn thread(self: &Arc<Self>) -> io::Result<()> {
        let mut builder = Builder::new().name(self.kind.name.to_owned());
        if let Some(bytes) = self.kind.stack_bytes {
            builder = builder.stack_size(bytes);
        }
        let pool = Arc::clone(self);
        builder.spawn(move || pool.work()).map(drop)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.gone = true;
        // Nobody takes it on any more.
        let left = (
            std::mem::take(&mut state.line),
            std::mem::take(&mut state.handed),
        );
        drop(state);
        self.0.handed.notify_all();
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    const SOME: Kind = Kind {
        name: "threads",
        threads: 4,
        each: 4,
        max_waiting: 10_000,
        stack_bytes: None,
    };
    const ONE: Kind = Kind { threads: 1, ..SOME };

    fn party(name: &str) -> Party {
        Party::of(Some(name), "words")
    }

    fn done<T>(doing: Doing<T>) -> Result<T, Undone> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(doing)
    }

    #[test]
    fn shutting_down_waits_for_nothing() {
        let threads = Threads::new(SOME);
        let (release, held) = mpsc::channel::<()>();
        let (started, starts) = mpsc::channel();
        for _ in 0..2 * SOME.threads {
            let started = started.clone();
            let _ = threads.spawn_to_end(&party("a"), move || started.send(()));
        }
        for _ in 0..2 * SOME.threads {
            starts.recv().unwrap();
        }
        // It has begun, and waits, as a call to a dead network drive would.
        let stuck = threads.spawn(&party("a"), move || {
            let _ = started.send(());
            held.recv()
        });
        let stuck = stuck.unwrap();
        starts.recv().unwrap();
        let began = Instant::now();
        drop(threads);
        assert!(began.elapsed().as_secs() < 5);
        drop(release);
        drop(stuck);
    }

    /// Takes all threads until what it gives is dropped.
    fn held_up(threads: &Threads) -> mpsc::Sender<()> {
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        let (started, starts) = mpsc::channel();
        for _ in 0..threads.0.kind.threads {
            let (held, started) = (Arc::clone(&held), started.clone());
            let waits = move || {
                let _ = started.send(());
                drop(held.lock().map(|held| held.recv()));
            };
            drop(threads.spawn_to_end(&party("a"), waits).unwrap());
        }
        (0..threads.0.kind.threads).for_each(|_| starts.recv().unwrap());
        release
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_begun() {
        let threads = Threads::new(SOME);
        let release = held_up(&threads);
        let (done, does) = mpsc::channel();
        let say = |what: &'static str| {
            let done = done.clone();
            move || done.send(what)
        };
        let wanted = threads.spawn(&party("a"), say("wanted")).unwrap();
        drop(threads.spawn(&party("a"), say("unwanted")).unwrap());
        drop(
            threads
                .spawn_to_end(&party("a"), say("to its end"))
                .unwrap(),
        );
        drop(done);
        drop(release);
        let mut said: Vec<_> = does.iter().collect();
        said.sort_unstable();
        assert_eq!(said, ["to its end", "wanted"]);
        drop(wanted);
    }

    /// Neither a thread nor what it holds is kept for what nobody waits for.
    #[test]
    fn what_is_given_up_leaves_the_line() {
        let threads = Threads::new(SOME);
        let release = held_up(&threads);
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let waiting = threads.spawn(&party("a"), move || drop(holds)).unwrap();
        assert_eq!(
            (threads.0.lock().line.waiting(), Arc::strong_count(&held)),
            (1, 2)
        );
        drop(waiting);
        assert_eq!(
            (threads.0.lock().line.waiting(), Arc::strong_count(&held)),
            (0, 1)
        );
        drop(release);
    }

    #[test]
    fn whoever_wants_much_is_not_in_the_way_of_others() {
        let threads = Threads::new(ONE);
        let release = held_up(&threads);
        let (done, does) = mpsc::channel();
        for name in ["a", "a", "a", "a", "b", "c", "c"] {
            let done = done.clone();
            let say = move || done.send(name);
            drop(threads.spawn_to_end(&party(name), say).unwrap());
        }
        drop(done);
        drop(release);
        let said: Vec<_> = does.iter().collect();
        assert_eq!(said, ["a", "b", "c", "a", "c", "a", "a"]);
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let threads = Threads::new(ONE);
        let panics = threads.spawn(&party("a"), || panic!("as it may")).unwrap();
        let fine = threads.spawn(&party("a"), || 7).unwrap();
        let panicked: Result<(), Undone> = done(panics);
        assert_eq!(panicked, Err(Undone::Panicked));
        assert_eq!(done(fine), Ok(7));
    }

    #[test]
    fn no_more_waits_than_may() {
        let threads = Threads::new(Kind {
            max_waiting: 2,
            ..SOME
        });
        let release = held_up(&threads);
        let waiting = [(); 2].map(|()| threads.spawn(&party("a"), || ()).unwrap());
        let refused = threads.spawn(&party("b"), || ()).err().unwrap();
        assert_eq!(
            refused.raw_os_error(),
            Some(rustix::io::Errno::BUSY.raw_os_error())
        );
        drop(release);
        for one in waiting {
            done(one).unwrap();
        }
        assert!(threads.spawn(&party("b"), || ()).is_ok());
    }

    #[test]
    fn nobody_has_more_than_a_part_of_them() {
        let threads = Threads::new(Kind {
            threads: 2,
            each: 1,
            ..SOME
        });
        let (release, held) = mpsc::channel::<()>();
        let (started, starts) = mpsc::channel();
        let holds = move || {
            let _ = started.send(());
            held.recv()
        };
        let first = threads.spawn(&party("a"), holds).unwrap();
        starts.recv().unwrap();
        let second = threads.spawn(&party("a"), || ()).unwrap();
        assert_eq!(threads.0.lock().line.waiting(), 1);
        let other = threads.spawn(&party("b"), || 7).unwrap();
        assert_eq!(done(other), Ok(7));
        assert_eq!(threads.0.lock().line.waiting(), 1);
        drop(release);
        done(first).unwrap().unwrap_err();
        done(second).unwrap();
    }

    /// Neither a place nor what was to be done is kept where the system has no thread to give.
    #[test]
    fn without_a_thread_nothing_is_lost() {
        let threads = Threads::new(Kind {
            threads: 1,
            // More than there are addresses.
            stack_bytes: Some(1 << 60),
            ..SOME
        });
        let held = Arc::new(());
        for _ in 0..3 {
            let holds = Arc::clone(&held);
            assert!(threads.spawn(&party("a"), move || drop(holds)).is_err());
            let line = &threads.0.lock().line;
            assert_eq!((line.running(), line.waiting()), (0, 0));
        }
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
