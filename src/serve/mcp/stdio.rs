//! The protocol over a pair of streams, such as standard input and output.

mod watched;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{ErrorData, RoleServer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use watched::{Large, Watched};

/// As long as so many messages wait for the client to take them, nothing more is read from it.
const UNSENT: usize = 64;

/// A transport that reads no faster than the client does: one that floods and never reads is not
/// listened to. A message past the bound is passed over, and its client told so.
pub(super) struct Paced<R: AsyncRead + Unpin, W: AsyncWrite> {
    inner: AsyncRwTransport<RoleServer, Watched<R>, W>,
    unsent: Arc<Unsent>,
    large: Arc<Large>,
    most: usize,
}

#[derive(Default)]
struct Unsent {
    count: AtomicUsize,
    fewer: Notify,
}

/// One message that is to be sent.
struct One(Arc<Unsent>);

impl One {
    fn new(unsent: &Arc<Unsent>) -> Self {
        unsent.count.fetch_add(1, Ordering::Relaxed);
        One(Arc::clone(unsent))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
        self.0.fewer.notify_one();
    }
}

impl<R, W> Paced<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    pub fn new(read: R, write: W, message_bytes: usize) -> Self {
        let large = Arc::new(Large::default());
        let read = Watched::new(read, message_bytes, Arc::clone(&large));
        Paced {
            inner: AsyncRwTransport::new_server(read, write).with_max_line_length(message_bytes),
            unsent: Arc::default(),
            large,
            most: message_bytes,
        }
    }

    /// Says of each message that was too large that it was.
    fn refuse_large(&mut self) {
        for id in self.large.take() {
            let message = format!(
                "the message has more than {} bytes, and was not read",
                self.most
            );
            let error = ErrorData::invalid_request(message, None);
            // Whoever reads is interrupted by whoever sends; this is not.
            tokio::spawn(self.send(TxJsonRpcMessage::<RoleServer>::error(error, id)));
        }
    }
}

impl<R, W> Transport<RoleServer> for Paced<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = std::io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let one = One::new(&self.unsent);
        let send = self.inner.send(message);
        async move {
            let sent = send.await;
            drop(one);
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            self.refuse_large();
            while self.unsent.count.load(Ordering::Relaxed) >= UNSENT {
                self.unsent.fewer.notified().await;
            }
            // What was read before gets its turn first, or a flood would be taken in whole.
            tokio::task::yield_now().await;
            let large = Arc::clone(&self.large);
            tokio::select! {
                biased;
                message = self.inner.receive() => return message,
                () = large.more.notified() => {}
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}
