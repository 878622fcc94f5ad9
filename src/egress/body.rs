//! Bodies of requests and answers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::circuit::Held;
use super::send::Shared;
use super::{EgressError, Meter};

/// An error of whoever makes a request's body.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// The body of an answer, read from the connection as fast as it is taken from here. Dropping it
/// closes the connection. What comes of it is what came of the request, for the host's circuit.
pub(crate) struct ResponseBody {
    incoming: Incoming,
    connection: Shared,
    meter: Arc<Meter>,
    patience: Option<(Duration, Pin<Box<Sleep>>)>,
    held: Held,
}

impl ResponseBody {
    pub(super) fn new(
        incoming: Incoming,
        connection: Shared,
        meter: Arc<Meter>,
        between_bytes: Option<Duration>,
        mut held: Held,
    ) -> Self {
        if incoming.is_end_stream() {
            held.succeeded();
        }
        ResponseBody {
            incoming,
            connection,
            meter,
            patience: between_bytes
                .map(|patience| (patience, Box::pin(tokio::time::sleep(patience)))),
            held,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = EgressError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EgressError>>> {
        let this = self.get_mut();
        let ended = match Pin::new(&mut this.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some((patience, timer)) = &mut this.patience {
                    timer.as_mut().reset(Instant::now() + *patience);
                }
                this.held.heard();
                if this.incoming.is_end_stream() {
                    this.held.succeeded();
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(Some(Err(error))) => match this.meter.met() {
                Some(_) => EgressError::Limit,
                None => EgressError::of(&error),
            },
            Poll::Ready(None) => {
                this.held.succeeded();
                return Poll::Ready(None);
            }
            Poll::Pending => {
                this.held.wait();
                let Some((_, timer)) = &mut this.patience else {
                    return Poll::Pending;
                };
                std::task::ready!(timer.as_mut().poll(context));
                EgressError::BetweenBytesTimeout
            }
        };
        this.held.ended(&ended);
        Poll::Ready(Some(Err(ended)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        // What has come meanwhile, and nobody has taken, is not late.
        if self.held.is_waiting()
            && let Poll::Ready(None | Some(Ok(_))) =
                Pin::new(&mut self.incoming).poll_frame(&mut context)
        {
            self.held.heard();
        }
        // Whoever has heard enough has nothing against the host.
        if !self.held.is_waiting() {
            self.held.succeeded();
        }
        self.connection.close();
    }
}
