//! What a guest writes to standard output and standard error: kept up to a limit, then dropped and
//! counted.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// One captured stream. Cloning gives another handle to the same.
#[derive(Clone)]
pub(super) struct Capture(Arc<Mutex<Captured>>);

struct Captured {
    kept: Vec<u8>,
    allowed: u64,
    dropped: u64,
}

impl Capture {
    pub fn new(allowed: u64) -> Self {
        Capture(Arc::new(Mutex::new(Captured {
            kept: Vec::new(),
            allowed,
            dropped: 0,
        })))
    }

    /// What was kept, as text, and how many bytes were dropped.
    pub fn take(&self) -> (String, u64) {
        let mut captured = self.lock();
        let kept = std::mem::take(&mut captured.kept);
        let text = String::from_utf8(kept).unwrap_or_else(|error| {
            let (text, dropped) = readable(error.as_bytes(), captured.allowed);
            captured.dropped += dropped;
            text
        });
        (text, captured.dropped)
    }

    fn push(&self, bytes: &[u8]) {
        let mut captured = self.lock();
        let room = captured.allowed.saturating_sub(captured.kept.len() as u64);
        let kept = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        captured.kept.extend_from_slice(&bytes[..kept]);
        captured.dropped += (bytes.len() - kept) as u64;
    }

    fn lock(&self) -> MutexGuard<'_, Captured> {
        // Bytes and a count: whatever a panicking writer left is consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text of bytes that are not all text, with a mark for what cannot be read, and how many bytes
/// were left off: a mark is longer than what it stands for, and the limit holds for the text as well.
fn readable(bytes: &[u8], allowed: u64) -> (String, u64) {
    let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
    let mut text = String::new();
    let mut taken = 0;
    let marked = bytes.utf8_chunks().flat_map(|chunk| {
        let mark = (!chunk.invalid().is_empty())
            .then_some((char::REPLACEMENT_CHARACTER, chunk.invalid().len()));
        chunk.valid().chars().map(|c| (c, c.len_utf8())).chain(mark)
    });
    for (c, length) in marked {
        if text.len() + c.len_utf8() > allowed {
            break;
        }
        text.push(c);
        taken += length;
    }
    (text, (bytes.len() - taken) as u64)
}

impl IsTerminal for Capture {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Capture {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Capture {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 * 1024)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Capture {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Capture {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_past_the_limit_is_counted() {
        let capture = Capture::new(5);
        capture.push(b"abc");
        capture.push(b"def");
        capture.push(b"g");
        assert_eq!(capture.take(), ("abcde".into(), 2));
    }

    #[test]
    fn a_character_cut_in_two_is_left_off() {
        let capture = Capture::new(3);
        capture.push("abé".as_bytes());
        assert_eq!(capture.take(), ("ab".into(), 2));
    }

    #[test]
    fn marks_for_what_is_no_text_count_as_long_as_they_are() {
        let capture = Capture::new(8);
        capture.push(b"a\xff\xffb\xffc");
        assert_eq!(capture.take(), ("a\u{fffd}\u{fffd}b".into(), 2));
    }
}
