//! Connections, one task each: bounded in number, in what they may send, and in how long they take.

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::guard::Peer;
use super::patient::Patient;
use super::places::{Place, Places};
use super::rate::network;
use super::settings::Settings;
use super::state::Service;

/// How long to wait where the system gives no connection, such as for want of file descriptors.
const BREATHE: Duration = Duration::from_millis(50);

/// Serves a router on a listener, with the limits that the [`Settings`] name.
///
/// ```no_run
/// use skillhost::serve::{Server, Service, router};
///
/// # async fn example(service: Service) -> std::io::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// println!("listening on {}", listener.local_addr()?);
/// let server = Server::new(service.clone(), router(&service));
/// let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
/// server.run(listener, stop, std::future::pending()).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    service: Service,
    router: Router,
    grace: Duration,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that were cut, for they took longer than the grace period.
    pub cut: usize,
}

impl Server {
    /// A server for this router, which is the service's own or has it in it.
    pub fn new(service: Service, router: Router) -> Self {
        Server {
            service,
            router,
            grace: Duration::from_secs(25),
        }
    }

    /// How long requests may go on once it was told to stop; 25 seconds unless set.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Serves until `stop` is ready. Then it accepts no more connections, lets requests that are going
    /// on come to their end, and cuts what is left after the grace period, or once `hurry` is ready.
    pub async fn run(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Stopped {
        let settings = self.service.settings().clone();
        let places = Arc::new(Semaphore::new(settings.connections));
        let networks = Places::new(settings.connections_of_one);
        let closing = CancellationToken::new();
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            // Ended ones are not kept until the end.
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = accept(&listener, &places, &networks) => accepted,
            };
            let Some((connection, peer, place)) = accepted else {
                continue;
            };
            let (router, closing, settings) =
                (self.router.clone(), closing.clone(), settings.clone());
            connections.spawn(async move {
                serve(connection, peer, router, &settings, closing).await;
                drop(place);
            });
        }
        self.service.stop();
        // Whoever connects from now on is refused by the system, rather than left waiting.
        drop(listener);
        closing.cancel();
        // However this ends, nobody is there any more to take an answer.
        let _cut = self.service.inner.cut.clone().drop_guard();
        let ended = async { while connections.join_next().await.is_some() {} };
        tokio::select! {
            () = ended => return Stopped { cut: 0 },
            () = tokio::time::sleep(self.grace) => {}
            () = hurry => {}
        }
        let cut = connections.len();
        connections.shutdown().await;
        Stopped { cut }
    }
}

type Accepted<C> = Option<(C, SocketAddr, (OwnedSemaphorePermit, Place<IpAddr>))>;

/// What a connection is answered that is one too many of its peer's.
const TOO_MANY: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n",
    "retry-after: 1\r\nconnection: close\r\n\r\n",
    r#"{"type":"urn:skillhost:problem:unavailable","title":"Not available now","status":503,"#,
    r#""detail":"too many connections come from this address"}"#,
);

/// The next connection, once there is a place for it. One whose peer has all that it may have is closed.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    networks: &Places<IpAddr>,
) -> Accepted<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + use<>> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((connection, peer)) => {
            let Some(one_of) = networks.take(network(peer.ip())) else {
                tracing::debug!(%peer, "it has all connections that one may have");
                // As far as it fits the system's buffer: nobody is waited for.
                if let Ok(mut connection) = connection.into_std() {
                    let _ = connection.write(TOO_MANY.as_bytes());
                }
                return None;
            };
            // Answers are short: none should wait for the next.
            let _ = connection.set_nodelay(true);
            Some((connection, peer, (place, one_of)))
        }
        Err(error) => {
            let gone = matches!(
                error.kind(),
                io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
            );
            if !gone {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(BREATHE).await;
            }
            None
        }
    }
}

/// Serves one connection to its end.
async fn serve(
    connection: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    peer: SocketAddr,
    router: Router,
    settings: &Settings,
    closing: CancellationToken,
) {
    let connection = TokioIo::new(Patient::new(connection, settings.write_timeout));
    let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        router.clone().oneshot(request.map(Body::new))
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_header_size(settings.header_bytes)
        .max_buf_size(settings.header_bytes.max(64 << 10));
    if settings.header_fields != 100 {
        // The default is on the stack.
        builder.max_headers(settings.header_fields);
    }
    let mut serving = pin!(builder.serve_connection(connection, answer));
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = closing.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection ended early");
    }
}
