//! The bodies of answers over HTTP, with what ends with them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::combinators::BoxBody;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::untaken::Untaken;

/// A body that ends, in order, once it is told to.
pub(super) struct Until {
    body: BoxBody<Bytes, Infallible>,
    told: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Until {
    pub fn new(body: BoxBody<Bytes, Infallible>, end: CancellationToken) -> Self {
        Until {
            body,
            told: Box::pin(end.cancelled_owned()),
        }
    }
}

impl Body for Until {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.told.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => Pin::new(&mut self.body).poll_frame(context),
        }
    }
}

/// An answer that is taken once it has come to its end.
pub(super) struct Taking {
    pub body: BoxBody<Bytes, Infallible>,
    pub untaken: Option<Untaken>,
}

impl Body for Taking {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) {
            self.untaken = None;
        }
        polled
    }
}
