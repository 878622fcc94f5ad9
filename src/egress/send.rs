//! One request, over one connection.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, HOST};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;

use super::circuit::Held;
use super::connect::Connection;
use super::{Egress, EgressError, Meter, RequestBody, ResponseBody, Rules};
use crate::grant::HttpTarget;

/// Time to look a name up, connect and greet inside TLS, where the guest names none.
const CONNECT: Duration = Duration::from_secs(10);
/// What is buffered of an answer at most, and so how long its head may be.
const BUFFER_BYTES: usize = 64 * 1024;
/// The most fields in the head of an answer.
const MAX_HEADERS: usize = 256;

/// How long the guest is willing to wait. The execution's deadline holds besides.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// For a connection. Default 10 s.
    pub connect: Option<Duration>,
    /// From there to the head of the answer.
    pub first_byte: Option<Duration>,
    /// From one piece of the body to the next.
    pub between_bytes: Option<Duration>,
}

impl Egress {
    /// Sends a request that is aimed at `target`, and waits for the head of the answer. The body of
    /// the answer comes only while the driver is polled.
    ///
    /// Of the request, method, headers and body are sent as they are; what the target says stands
    /// for the rest. No redirect is followed.
    ///
    /// # Errors
    /// See [`EgressError`]. Whoever gets a denial tells it on.
    pub async fn send(
        &self,
        target: &HttpTarget,
        request: Request<RequestBody>,
        rules: &Rules,
        meter: &Arc<Meter>,
        times: Times,
    ) -> Result<(Response<ResponseBody>, Driver), EgressError> {
        rules.admit(target).map_err(EgressError::Denied)?;
        let added = rules
            .authorization(target, request.headers())
            .map_err(EgressError::Denied)?;
        let mut held = self.ask(target, rules.by())?;
        let sent = self
            .send_admitted(target, request, added, rules, meter, times, &mut held)
            .await;
        match sent {
            Ok((answer, driver, shared)) => {
                // It answers, and says itself that it is not well.
                if answer.status().is_server_error() {
                    held.failed();
                }
                let meter = Arc::clone(meter);
                let body = |incoming| {
                    ResponseBody::new(incoming, shared, meter, times.between_bytes, held)
                };
                Ok((answer.map(body), driver))
            }
            Err(error) => {
                held.ended(&error);
                Err(error)
            }
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one place calls it, for its errors"
    )]
    async fn send_admitted(
        &self,
        target: &HttpTarget,
        request: Request<RequestBody>,
        added: HeaderMap,
        rules: &Rules,
        meter: &Arc<Meter>,
        times: Times,
        held: &mut Held,
    ) -> Result<(Response<Incoming>, Driver, Shared), EgressError> {
        let patience = times.connect.unwrap_or(CONNECT);
        let connection = self.connect(target, rules, meter, patience, held).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(connection)
            .await
            .map_err(|error| EgressError::of(&error))?;
        let shared = Shared::new(connection);
        let mut request = addressed(request, target)?;
        // Only now: the server is who it says it is, and nobody else is asked in its place.
        rules.used(target).map_err(EgressError::Denied)?;
        meter.adds(header_bytes(&added));
        request.headers_mut().extend(added);
        held.wait();
        let request = request.map(|body| held.sending(body));
        let answer = sender.send_request(request);
        let mut driver = Driver(shared.clone());
        let answer = with_driver(answer, &mut driver);
        let answer = match times.first_byte {
            Some(patience) => tokio::time::timeout(patience, answer)
                .await
                .map_err(|_| EgressError::FirstByteTimeout)?,
            None => answer.await,
        };
        let answer = answer.map_err(|error| match meter.met() {
            Some(_) => EgressError::Limit,
            None => EgressError::of(&error),
        })?;
        held.heard();
        Ok((answer, driver, shared))
    }
}

/// What headers take on the wire: each a line, with a colon, a space, and its end.
fn header_bytes(headers: &HeaderMap) -> u64 {
    let bytes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    bytes.sum::<usize>() as u64
}

/// The request as it is sent to the target.
fn addressed(
    request: Request<RequestBody>,
    target: &HttpTarget,
) -> Result<Request<RequestBody>, EgressError> {
    let (mut parts, body) = request.into_parts();
    let invalid = |_| EgressError::Protocol;
    parts.uri = Uri::try_from(target.path_and_query()).map_err(|_| EgressError::Protocol)?;
    let host = HeaderValue::try_from(target.authority()).map_err(invalid)?;
    parts.headers.insert(HOST, host);
    parts
        .headers
        .insert(CONNECTION, HeaderValue::from_static("close"));
    parts.version = http::Version::HTTP_11;
    Ok(Request::from_parts(parts, body))
}

/// Waits for something that only comes while the driver is polled.
pub(super) async fn with_driver<F: Future>(future: F, driver: &mut Driver) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut driven = false;
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(output);
        }
        if !driven && Pin::new(&mut *driver).poll(context).is_ready() {
            driven = true;
            // The connection's end is what the answer was waiting for.
            return future.as_mut().poll(context);
        }
        Poll::Pending
    })
    .await
}

/// Moves bytes between a connection and whoever reads and writes bodies.
pub(crate) struct Driver(Shared);

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut connection = self.0.lock();
        match connection.as_mut() {
            None => Poll::Ready(()),
            Some(open) => match Pin::new(open).poll(context) {
                Poll::Ready(ended) => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended");
                    }
                    *connection = None;
                    Poll::Ready(())
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

type Open = http1::Connection<Connection, RequestBody>;

/// A connection that is driven in one place and closed from another.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Option<Open>>>);

impl Shared {
    fn new(connection: Open) -> Self {
        Shared(Arc::new(Mutex::new(Some(connection))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        // After a panic while it was driven, it is only ever dropped.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes it now, and not when an executor gets round to it.
    pub fn close(&self) {
        drop(self.lock().take());
    }
}
