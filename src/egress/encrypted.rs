//! What comes below TLS, counted too: a server may send records that hold nothing, without end, and none of
//! that would count inside.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Meter;

/// A stream below TLS.
pub(super) struct Encrypted<S> {
    stream: S,
    meter: Arc<Meter>,
}

impl<S> Encrypted<S> {
    pub fn new(stream: S, meter: Arc<Meter>) -> Self {
        Encrypted { stream, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                let read = (buffer.filled().len() - before) as u64;
                Poll::Ready(this.meter.encrypted(read).map_err(io::Error::other))
            }
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::limits::{Limit, Limits};

    #[tokio::test]
    async fn what_is_read_below_tls_is_bounded() {
        let meter = Meter::new(&Limits {
            http_response_bytes: 100,
            ..Limits::default()
        });
        let (mut server, client) = duplex(64 * 1024);
        let mut client = Encrypted::new(client, Arc::clone(&meter));
        let sends = tokio::spawn(async move {
            // Until nobody reads any more.
            while server.write_all(&[0; 16 * 1024]).await.is_ok() {}
        });
        let mut read = 0;
        let mut buffer = [0; 16 * 1024];
        while let Ok(more) = client.read(&mut buffer).await {
            read += more;
        }
        drop(client);
        sends.await.unwrap();
        let allowed = (1 << 20) + 400;
        assert!((allowed - buffer.len()..=allowed).contains(&read), "{read}");
        assert_eq!(meter.met(), Some((Limit::HttpResponseBytes, 100)));
    }
}
