//! Threads for what blocks or computes for long, bounded in number: nothing waits for them when the host goes, and
//! whoever waits for one waits in turns between tenants, or skills without one, so that what one of them wants is
//! not in the way of others'.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::line::{Line, Ticket, Whose};
use super::{ANYTHING, Party, Places};

/// A bounded pool of threads.
pub(crate) struct Threads {
    /// Made when something is to be done for the first time. It drives nothing: only its pool for
    /// blocking calls is used.
    runtime: OnceLock<Runtime>,
    pool: Arc<Pool>,
    kind: Kind,
}

/// What the threads of a pool are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub name: &'static str,
    /// How many at most.
    pub threads: u32,
    /// How much may wait for one.
    pub max_waiting: u32,
    /// The stack of each, in bytes; `None` for what threads have anyway.
    pub stack_bytes: Option<usize>,
}

/// What is done, and what waits for a thread.
struct Pool {
    line: Mutex<Line<Job>>,
    threads: Places,
}

type Job = Box<dyn FnOnce() + Send>;

impl Pool {
    /// Nothing is done or dropped under the lock that is not the line's own.
    fn lock(&self) -> MutexGuard<'_, Line<Job>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread of the pool, for as long as there is something to be done.
struct Thread {
    pool: Arc<Pool>,
    /// For whom it does what it does; `None` once it is given back.
    does: Option<Option<Whose>>,
}

impl Thread {
    /// Does something, and then whatever is next, until nothing waits.
    fn work(mut self, mut job: Job) {
        loop {
            job();
            let Some(next) = self.next() else { return };
            job = next;
        }
    }

    /// Takes on what is next, or is given back.
    fn next(&mut self) -> Option<Job> {
        let mut line = self.pool.lock();
        if let Some(whose) = self.does.take() {
            line.finish(whose.as_ref());
        }
        let (job, whose) = line.next(&self.pool.threads)?;
        self.does = Some(Some(whose));
        Some(job)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // Where it never came to it: the host is going, or the system has no thread.
        if let Some(whose) = self.does.take() {
            self.pool.lock().finish(whose.as_ref());
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
            let job = pool.lock().leave(&ticket);
            // What it holds may have something to be done in turn, once the lock is free.
            drop(job);
        }
    }
}

impl Threads {
    /// A pool that has none yet.
    pub fn new(kind: Kind) -> Self {
        Threads {
            runtime: OnceLock::new(),
            pool: Arc::new(Pool {
                line: Mutex::default(),
                threads: Places(kind.threads),
            }),
            kind,
        }
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
        let ticket = self.begin(party, job, self.kind.max_waiting)?;
        Ok(Doing {
            done: doing,
            waits: ticket.map(|ticket| (Arc::clone(&self.pool), ticket)),
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
        let runtime = self.runtime()?;
        let mut line = self.pool.lock();
        // Whoever waits does so because there is no thread: each that ends takes on the next.
        if let Some(whose) = line.start(party.name(), ANYTHING, &self.pool.threads) {
            drop(line);
            let pool = Arc::clone(&self.pool);
            let does = Some(whose);
            let thread = Thread { pool, does };
            runtime.spawn_blocking(move || thread.work(job));
            return Ok(None);
        }
        if line.waiting() >= max_waiting {
            drop(line);
            return Err(rustix::io::Errno::BUSY.into());
        }
        Ok(Some(line.wait(party.name(), ANYTHING, job)))
    }

    fn runtime(&self) -> io::Result<&Runtime> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let mut builder = Builder::new_current_thread();
        builder
            .max_blocking_threads(self.kind.threads as usize)
            .thread_name(self.kind.name);
        if let Some(bytes) = self.kind.stack_bytes {
            builder.thread_stack_size(bytes);
        }
        let runtime = builder.build()?;
        if let Err(second) = self.runtime.set(runtime) {
            // Another thread was first.
            second.shutdown_background();
        }
        let runtime = self.runtime.get();
        runtime.ok_or_else(|| io::Error::other("no threads"))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        // Nobody takes it on any more.
        let left = std::mem::take(&mut *self.pool.lock());
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
        max_waiting: 10_000,
        stack_bytes: None,
    };
    const ONE: Kind = Kind { threads: 1, ..SOME };

    fn party(name: &str) -> Party {
        Party::of(Some(name), "words")
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
        for _ in 0..threads.kind.threads {
            let (held, started) = (Arc::clone(&held), started.clone());
            let waits = move || {
                let _ = started.send(());
                drop(held.lock().map(|held| held.recv()));
            };
            drop(threads.spawn_to_end(&party("a"), waits).unwrap());
        }
        (0..threads.kind.threads).for_each(|_| starts.recv().unwrap());
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
            (threads.pool.lock().waiting(), Arc::strong_count(&held)),
            (1, 2)
        );
        drop(waiting);
        assert_eq!(
            (threads.pool.lock().waiting(), Arc::strong_count(&held)),
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
        let runtime = threads.runtime.get().unwrap();
        let panicked: Result<(), Undone> = runtime.block_on(panics);
        assert_eq!(panicked, Err(Undone::Panicked));
        assert_eq!(runtime.block_on(fine), Ok(7));
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
            threads.runtime.get().unwrap().block_on(one).unwrap();
        }
        assert!(threads.spawn(&party("b"), || ()).is_ok());
    }
}
