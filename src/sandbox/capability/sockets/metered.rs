//! Counts what goes over TCP sockets. wasmtime-wasi makes the streams; they are wrapped as soon as the
//! guest gets them, so that every byte goes by here.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use crate::egress::Meter;
use crate::sandbox::state::State;

type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

/// What counts, where anything is granted.
pub(super) fn meter(state: &State) -> Option<Arc<Meter>> {
    let granted = state.network.granted()?;
    Some(Arc::clone(&granted.meter))
}

/// The streams of a TCP socket, with a meter around each. There is none without a grant, and so without
/// one.
pub(super) fn wrapped(state: &mut State, streams: Streams) -> wasmtime::Result<Streams> {
    let Some(meter) = meter(state) else {
        return Err(wasmtime::Error::msg("a socket that was not granted"));
    };
    let (input, output) = &streams;
    let inner = state.table().get_mut(input)?;
    let stream = std::mem::replace(inner, Box::new(Nothing));
    *inner = Box::new(Metered {
        stream,
        meter: Arc::clone(&meter),
    });
    let inner = state.table().get_mut(output)?;
    let stream = std::mem::replace(inner, Box::new(Nothing));
    *inner = Box::new(Metered { stream, meter });
    Ok(streams)
}

/// A stream whose bytes are counted. Where a limit was met, the execution ends as soon as the call
/// returns, whatever it returns.
struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
}

#[wasmtime_wasi::async_trait]
impl<S: Pollable> Pollable for Metered<S> {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for Metered<DynInputStream> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let read = self.stream.read(size.min(self.meter.room()))?;
        match self.meter.receive(read.len() as u64) {
            Ok(()) => Ok(read),
            Err(error) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Metered<DynOutputStream> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // Where it fails half way, some of them went.
        match self.meter.send(bytes.len() as u64) {
            Ok(()) => self.stream.write(bytes),
            Err(error) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.stream.check_write()
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}

/// In the place of a stream while it is wrapped.
struct Nothing;

#[wasmtime_wasi::async_trait]
impl Pollable for Nothing {
    async fn ready(&mut self) {}
}

impl InputStream for Nothing {
    fn read(&mut self, _: usize) -> StreamResult<Bytes> {
        Err(StreamError::Closed)
    }
}

impl OutputStream for Nothing {
    fn write(&mut self, _: Bytes) -> StreamResult<()> {
        Err(StreamError::Closed)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Err(StreamError::Closed)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Err(StreamError::Closed)
    }
}
