//! What is read from the system's files, once for all who want it meanwhile. A file that does not answer, as one on a
//! dead network drive, holds a single thread, which nobody waits for when the host and its runtime go.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

use tokio::sync::watch;

/// What was read last, or is being read.
pub(super) struct Reading<T> {
    /// What its thread is called. The first 15 bytes of it are what the system shows.
    name: &'static str,
    last: Mutex<Option<watch::Receiver<Option<T>>>>,
}

impl<T: Clone + Send + Sync + 'static> Reading<T> {
    pub const fn new(name: &'static str) -> Self {
        Reading {
            name,
            last: Mutex::new(None),
        }
    }

    /// What was read last, where that still holds. If not, what is being read; and only where nothing is, what this
    /// reads, on a thread of its own and to its end, whether or not anybody still waits for it.
    ///
    /// # Errors
    /// Where no thread can be had, or reading panicked.
    pub async fn get(
        &self,
        holds: impl FnOnce(&T) -> bool,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let mut last = self.begun(holds, read)?;
        let read = last.wait_for(Option::is_some).await.ok();
        let read = read.and_then(|read| read.clone());
        read.ok_or_else(|| io::Error::other("reading it panicked"))
    }

    fn begun(
        &self,
        holds: impl FnOnce(&T) -> bool,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<watch::Receiver<Option<T>>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &*last {
            let is_wanted = match &*last.borrow() {
                Some(read) => holds(read),
                // Unless its thread panicked.
                None => last.has_changed().is_ok(),
            };
            if is_wanted {
                return Ok(last.clone());
            }
        }
        let (tell, told) = watch::channel(None);
        Builder::new().name(self.name.to_owned()).spawn(move || {
            tell.send_replace(Some(read()));
        })?;
        Ok(last.insert(told).clone())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};
    use std::time::{Duration, Instant};

    use super::*;

    /// What nothing here takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A file that does not answer before this is dropped.
    pub struct Stalled {
        release: Option<mpsc::Sender<()>>,
        held: Arc<Mutex<mpsc::Receiver<()>>>,
        begun: Arc<AtomicUsize>,
    }

    impl Stalled {
        pub fn new() -> Self {
            let (release, held) = mpsc::channel();
            Stalled {
                release: Some(release),
                held: Arc::new(Mutex::new(held)),
                begun: Arc::default(),
            }
        }

        /// Reads it.
        pub fn reader(&self) -> impl FnOnce() + Send + use<> {
            let (held, begun) = (Arc::clone(&self.held), Arc::clone(&self.begun));
            move || {
                begun.fetch_add(1, Ordering::Relaxed);
                drop(held.lock().map(|held| held.recv()));
            }
        }

        /// Wants it many times, each time not for long. Then the runtime goes while it is being read, and then it
        /// answers.
        pub fn check_held_up<T>(mut self, want: impl AsyncFn(&Self) -> T) -> T {
            let runtime = || {
                tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .unwrap()
            };
            let short = runtime();
            short.block_on(async {
                for _ in 0..50 {
                    let waiting = tokio::time::timeout(Duration::from_millis(2), want(&self));
                    assert!(waiting.await.is_err(), "it does not answer");
                }
            });
            let began = Instant::now();
            // Without the patience it would wait for ever where it waits.
            short.shutdown_timeout(PATIENCE);
            assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
            assert!(self.begun.load(Ordering::Relaxed) <= 1);
            self.release = None;
            let long = runtime();
            let got = long.block_on(async { tokio::time::timeout(PATIENCE, want(&self)).await });
            assert_eq!(
                self.begun.load(Ordering::Relaxed),
                1,
                "it was read once for all"
            );
            got.expect("it answers now")
        }
    }

    #[test]
    fn what_does_not_answer_is_read_once_and_waited_for_by_nobody_who_goes() {
        let reading = Reading::new("reads");
        let got = Stalled::new().check_held_up(async |file| {
            let read = file.reader();
            let read = move || {
                read();
                7
            };
            reading.get(|_| true, read).await.unwrap()
        });
        assert_eq!(got, 7);
    }

    #[tokio::test]
    async fn what_holds_no_longer_is_read_anew() {
        let reading = Reading::new("reads");
        let got =
            async |holds: bool, value: u32| reading.get(|_| holds, move || value).await.unwrap();
        assert_eq!(got(true, 1).await, 1);
        assert_eq!(got(true, 2).await, 1);
        assert_eq!(got(false, 3).await, 3);
    }

    #[tokio::test]
    async fn after_a_panic_it_is_read_anew() {
        let reading = Reading::new("reads");
        reading
            .get(|_| true, || panic!("as it may"))
            .await
            .unwrap_err();
        assert_eq!(reading.get(|_| true, || 7).await.unwrap(), 7);
    }
}
