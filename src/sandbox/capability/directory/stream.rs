//! Files as streams. The host holds at most one piece of [`PIECE`] bytes for each.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::ReadWriteFlags;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::descriptor::File;
use super::shared::{Fault, Open, Shared, done};
use crate::turns::threads::Doing;

/// Bytes that are read or written at once.
pub(super) const PIECE: usize = 64 * 1024;

/// Reads at most so many bytes at a place, and [`PIECE`] at most. Blocks. Empty at the end.
pub(super) fn read_at(file: &fs::File, bytes: u64, offset: u64) -> Result<Vec<u8>, Fault> {
    let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(PIECE).min(PIECE)];
    loop {
        match file.read_at(&mut buffer, offset) {
            Ok(read) => {
                buffer.truncate(read);
                return Ok(buffer);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Where to write.
#[derive(Clone, Copy)]
pub(super) enum Place {
    At(u64),
    End,
}

/// Writes all the bytes, which are counted already. Blocks. Where the file grows by more than them,
/// the rest of that growth counts before they are written. No bytes change nothing, wherever they go.
pub(super) fn write(
    shared: &Shared,
    file: &fs::File,
    bytes: &[u8],
    place: Place,
) -> Result<(), Fault> {
    let written = write_all(shared, file, bytes, place);
    match &written {
        Ok(()) if bytes.is_empty() => {}
        Ok(()) => shared.had_room(),
        Err(Fault::Code(code)) => shared.told(*code),
        Err(_) => {}
    }
    written
}

fn write_all(shared: &Shared, file: &fs::File, bytes: &[u8], place: Place) -> Result<(), Fault> {
    let length = bytes.len() as u64;
    match place {
        Place::At(_) if bytes.is_empty() => {}
        Place::At(offset) => {
            let size = file.metadata()?.len();
            let growth = offset.saturating_add(length).saturating_sub(size);
            shared.write(growth.saturating_sub(length))?;
            file.write_all_at(bytes, offset)?;
        }
        Place::End => {
            let mut left = bytes;
            while !left.is_empty() {
                let pieces = [std::io::IoSlice::new(left)];
                match rustix::io::pwritev2(file, &pieces, 0, ReadWriteFlags::APPEND) {
                    Ok(0) => return Err(rustix::io::Errno::IO.into()),
                    Ok(written) => left = &left[written..],
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(())
}

/// A file that is read from front to back.
pub(super) struct Reader {
    file: Arc<File>,
    position: u64,
    state: Reading,
    _open: Open,
}

enum Reading {
    Idle,
    Waiting(Doing<Result<Vec<u8>, Fault>>),
    Read(Bytes),
    Failed(Fault),
    Closed,
}

impl Reader {
    pub fn new(file: Arc<File>, position: u64) -> Result<Self, Fault> {
        let open = file.origin.shared.open()?;
        Ok(Reader {
            file,
            position,
            state: Reading::Idle,
            _open: open,
        })
    }

    /// Waits until there is something to be had. May be dropped at any point and asked again.
    async fn fill(&mut self, bytes: usize) {
        if let Reading::Idle = self.state {
            let (file, position) = (Arc::clone(&self.file), self.position);
            let shared = &self.file.origin.shared;
            let started = shared
                .start(move || read_at(&file.file, bytes as u64, position))
                .await;
            self.state = match started {
                Ok(waiting) => Reading::Waiting(waiting),
                Err(error) => Reading::Failed(error.into()),
            };
        }
        if let Reading::Waiting(waiting) = &mut self.state {
            self.state = match done(waiting.await) {
                Ok(read) if read.is_empty() => Reading::Closed,
                Ok(read) => Reading::Read(read.into()),
                Err(fault) => Reading::Failed(fault),
            };
        }
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match std::mem::replace(&mut self.state, Reading::Closed) {
            Reading::Read(mut read) => {
                let piece = read.split_to(read.len().min(size));
                self.position += piece.len() as u64;
                self.state = match read.is_empty() {
                    true => Reading::Idle,
                    false => Reading::Read(read),
                };
                Ok(piece)
            }
            Reading::Failed(fault) => Err(fault.into()),
            Reading::Closed => Err(StreamError::Closed),
            waiting => {
                self.state = waiting;
                Ok(Bytes::new())
            }
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        // Nothing asked for is nothing read, and not the end.
        if size > 0 {
            self.fill(size).await;
        }
        self.read(size)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        self.fill(PIECE).await;
    }
}

/// A file that is written to.
pub(super) struct Writer {
    file: Arc<File>,
    place: Place,
    state: Writing,
    _open: Open,
}

enum Writing {
    Ready,
    /// Taken over, and not yet on its way.
    Pending(Bytes),
    Waiting(Doing<Result<u64, Fault>>),
    Failed(Fault),
    Closed,
}

impl Writer {
    pub fn new(file: Arc<File>, place: Place) -> Result<Self, Fault> {
        let open = file.origin.shared.open()?;
        Ok(Writer {
            file,
            place,
            state: Writing::Ready,
            _open: open,
        })
    }

    /// Waits until everything that was taken over is written. May be dropped at any point and asked
    /// again.
    async fn settle(&mut self) {
        if let Writing::Pending(bytes) = &self.state {
            let (file, place, bytes) = (Arc::clone(&self.file), self.place, bytes.clone());
            let shared = &self.file.origin.shared;
            let started = shared
                .start_to_end(move || {
                    write(&file.origin.shared, &file.file, &bytes, place)?;
                    Ok(bytes.len() as u64)
                })
                .await;
            self.state = match started {
                Ok(waiting) => Writing::Waiting(waiting),
                Err(error) => Writing::Failed(error.into()),
            };
        }
        if let Writing::Waiting(waiting) = &mut self.state {
            self.state = match done(waiting.await) {
                Ok(written) => {
                    if let Place::At(position) = &mut self.place {
                        *position += written;
                    }
                    Writing::Ready
                }
                Err(fault) => Writing::Failed(fault),
            };
        }
    }

    /// What is wrong with it, once.
    fn check(&mut self) -> StreamResult<()> {
        match std::mem::replace(&mut self.state, Writing::Closed) {
            Writing::Failed(fault) => Err(fault.into()),
            Writing::Closed => Err(StreamError::Closed),
            fine => {
                self.state = fine;
                Ok(())
            }
        }
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.check()?;
        if bytes.len() > PIECE {
            return Err(StreamError::trap(
                "more was written than there was room for",
            ));
        }
        match self.state {
            Writing::Ready => {
                // Counted as soon as it is taken over, whenever it goes out.
                let shared = &self.file.origin.shared;
                shared.write(bytes.len() as u64).map_err(Fault::from)?;
                self.state = Writing::Pending(bytes);
                Ok(())
            }
            _ => Err(StreamError::trap(
                "written to without having asked whether that is possible",
            )),
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        // Nothing is held back: what is pending goes out when anybody waits for it, or at the end.
        self.check()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.check()?;
        Ok(match self.state {
            Writing::Ready => PIECE,
            _ => 0,
        })
    }

    async fn cancel(&mut self) {
        // The guest closes it: what was taken over is still written.
        self.settle().await;
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        self.settle().await;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The whole execution goes. What the guest was told is taken over is written nevertheless.
        if let Writing::Pending(bytes) = std::mem::replace(&mut self.state, Writing::Closed) {
            let (file, place) = (Arc::clone(&self.file), self.place);
            self.file.origin.shared.finish(move || {
                if let Err(fault) = write(&file.origin.shared, &file.file, &bytes, place) {
                    tracing::debug!("the last write of a skill failed: {fault:?}");
                }
            });
        }
    }
}
