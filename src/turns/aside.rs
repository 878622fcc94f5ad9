//! What takes long where there is much of it, such as to write or to drop a large value: on threads for that, so that
//! no thread of a runtime is kept from others by it.

use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use super::Party;
use super::threads::{Kind, Threads};

/// Of all hosts of this process: what is done here waits for nothing, and takes a processor each.
static THREADS: LazyLock<Threads> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = u32::try_from(processors).unwrap_or(u32::MAX).max(2);
    Threads::new(Kind {
        name: "skillhost-aside",
        threads,
        each: threads / 2,
        max_waiting: u32::MAX,
        stack_bytes: None,
    })
});

/// How much of it is not done yet.
static UNFINISHED: Mutex<usize> = Mutex::new(0);
static DONE: Condvar = Condvar::new();

/// Something that is not done yet.
struct Unfinished;

impl Unfinished {
    fn new() -> Self {
        *UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Unfinished
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        *UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        DONE.notify_all();
    }
}

/// Waits until all of it is done, and for no longer than that. Called where the process ends, with which its threads do.
pub(crate) fn settle(at_most: Duration) -> bool {
    let unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = DONE.wait_timeout_while(unfinished, at_most, |unfinished| *unfinished > 0);
    let (unfinished, _) = waited.unwrap_or_else(PoisonError::into_inner);
    *unfinished == 0
}

/// Does something with a value that is large, in turns between parties; to its end, also where nobody waits for it any
/// more. Where no thread can be had, it is done here.
///
/// # Panics
/// Where it does.
pub(crate) async fn aside<D: Send + 'static, T: Send + 'static>(
    party: &Party,
    value: D,
    work: impl FnOnce(D) -> T + Send + 'static,
) -> T {
    // What is not begun there is still to be had.
    let todo = Arc::new(Mutex::new(Some((value, work))));
    let theirs = Arc::clone(&todo);
    let unfinished = Unfinished::new();
    let doing = THREADS.spawn_to_end(party, move || {
        let done = take(&theirs).map(|(value, work)| work(value));
        // Where nobody waits for it, what came of it is dropped first.
        (done, unfinished)
    });
    if let Ok(doing) = doing
        && let Ok((Some(done), _)) = doing.await
    {
        return done;
    }
    match take(&todo) {
        Some((value, work)) => work(value),
        None => resume_unwind(Box::new("what was done aside panicked")),
    }
}

/// The same, where it is large; else it is done here, and now.
pub(crate) async fn aside_if<D: Send + 'static, T: Send + 'static>(
    is_large: bool,
    party: impl FnOnce() -> Party,
    value: D,
    work: impl FnOnce(D) -> T + Send + 'static,
) -> T {
    match is_large {
        false => work(value),
        // It is seldom, and what it takes is not for all to carry along.
        true => {
            let party = party();
            Box::pin(aside(&party, value, work)).await
        }
    }
}

fn take<T>(todo: &Mutex<Option<T>>) -> Option<T> {
    todo.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Drops a value that is large.
pub(crate) fn let_go<D: Send + 'static>(party: &Party, value: D) {
    // Where no thread can be had, it is dropped here.
    let _ = THREADS.spawn_to_end(party, move || drop(value));
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn it_is_done_on_another_thread() {
        let party = Party::of(None, "one");
        let here = thread::current().id();
        let (value, there) = aside(&party, vec![7; 3], |value| (value, thread::current())).await;
        assert_eq!(value, [7, 7, 7]);
        assert_ne!(there.id(), here);
        assert_eq!(there.name(), Some("skillhost-aside"));
        struct Told(std::sync::mpsc::Sender<thread::ThreadId>);
        impl Drop for Told {
            fn drop(&mut self) {
                let _ = self.0.send(thread::current().id());
            }
        }
        let (sender, dropped) = channel();
        let_go(&party, Told(sender));
        assert_ne!(dropped.recv().unwrap(), here);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_done_before_the_end() {
        let party = Party::of(None, "another");
        let (release, held) = channel::<()>();
        let (done, was_done) = channel();
        let mut doing = Box::pin(aside(&party, (), move |()| {
            let _ = held.recv();
            let _ = done.send(());
        }));
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(doing.as_mut().poll(context).is_pending())
        });
        assert!(polled.await);
        drop(doing);
        assert!(!settle(Duration::from_millis(5)));
        drop(release);
        assert!(settle(Duration::MAX));
        was_done.try_recv().unwrap();
    }

    #[tokio::test]
    async fn what_panics_there_panics_here() {
        let party = Party::of(None, "one");
        let panics = tokio::spawn(async move {
            aside(&party, (), |()| panic!("expected by the test")).await;
        });
        assert!(panics.await.unwrap_err().is_panic());
    }
}
