//! Counts what goes over sockets. wasmtime-wasi makes the streams; they are wrapped as soon as the
//! guest gets them, so that every byte goes by here.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;
use wasmtime_wasi::p2::bindings::sockets::udp::{
    HostIncomingDatagramStream, HostOutgoingDatagramStream, IncomingDatagram,
    IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream,
};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, SocketError, StreamError,
    StreamResult,
};
use wasmtime_wasi::sockets::WasiSocketsView;

use crate::egress::Meter;
use crate::sandbox::state::State;

/// The version under which wasmtime-wasi 48 offers the interface; a test would notice another.
const UDP: &str = "wasi:sockets/udp@0.2.12";
/// The header of a datagram, in bytes: an empty one is sent, too.
const HEADER: u64 = 8;

type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

/// Puts functions that count in the place of those that do not.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut udp = linker.instance(UDP)?;
    udp.func_wrap(
        "[method]outgoing-datagram-stream.send",
        |mut store: StoreContextMut<'_, State>,
         (stream, datagrams): (Resource<OutgoingDatagramStream>, Vec<OutgoingDatagram>)| {
            let sizes: Vec<u64> = datagrams.iter().map(|one| size(&one.data)).collect();
            let state = store.data_mut();
            if let Some(meter) = meter(state)
                && meter.send(sizes.iter().sum()).is_err()
            {
                return Ok((Err(ErrorCode::DatagramTooLarge),));
            }
            let sent = state.sockets().send(stream, datagrams);
            let count = *sent.as_ref().unwrap_or(&0);
            let went = usize::try_from(count).unwrap_or(usize::MAX);
            if let Some(meter) = meter(state) {
                meter.not_sent(sizes.iter().skip(went).sum());
            }
            Ok::<(Result<u64, ErrorCode>,), _>((told(sent)?,))
        },
    )?;
    udp.func_wrap(
        "[method]incoming-datagram-stream.receive",
        |mut store: StoreContextMut<'_, State>,
         (stream, most): (Resource<IncomingDatagramStream>, u64)| {
            let state = store.data_mut();
            let received = state.sockets().receive(stream, most);
            let bytes = received
                .iter()
                .flatten()
                .map(|datagram| size(&datagram.data))
                .sum();
            if let Some(meter) = meter(state)
                && meter.receive(bytes).is_err()
            {
                return Ok((Err(ErrorCode::OutOfMemory),));
            }
            Ok::<(Result<Vec<IncomingDatagram>, ErrorCode>,), _>((told(received)?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn size(data: &[u8]) -> u64 {
    data.len() as u64 + HEADER
}

fn meter(state: &State) -> Option<Arc<Meter>> {
    let granted = state.network.granted()?;
    Some(Arc::clone(&granted.meter))
}

/// What the guest is told of; the rest ends the execution.
fn told<T>(done: Result<T, SocketError>) -> wasmtime::Result<Result<T, ErrorCode>> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(error) => Ok(Err(error.downcast()?)),
    }
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
