//! One request of the host's own, and its answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, timeout_at};

use super::send::{Driver, with_driver};
use super::{Egress, EgressError, Meter, ResponseBody, Rules, Times};
use crate::grant::HttpTarget;
use crate::limits::Limits;

/// What the heads of a request and of its answer may come to.
const HEAD_BYTES: u64 = 64 * 1024;

/// How long to wait for an answer, and how much of it to keep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// For all of it, from looking up the name on.
    pub patience: Duration,
    /// How much of the answer's body is kept, in bytes.
    pub kept: usize,
}

/// An answer, as far as it was kept.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The beginning of its body.
    pub body: Bytes,
}

impl Egress {
    /// Sends a request that the host makes for itself, such as a callback, and reads the answer. It
    /// goes the same way, and by the same rules, as a skill's.
    ///
    /// Once the head of the answer is there, there is an answer: a body that breaks off, does not
    /// end in time or is larger than what is kept is cut.
    ///
    /// # Errors
    /// See [`EgressError`]. Where the time is up, [`EgressError::FirstByteTimeout`].
    pub async fn exchange(
        &self,
        target: &HttpTarget,
        headers: HeaderMap,
        body: Bytes,
        rules: &Rules,
        bounds: Bounds,
    ) -> Result<Answer, EgressError> {
        let until = Instant::now() + bounds.patience;
        let meter = Meter::new(&Limits {
            connections: 1,
            http_request_bytes: HEAD_BYTES.saturating_add(body.len() as u64),
            http_response_bytes: (HEAD_BYTES.saturating_mul(2)).saturating_add(bounds.kept as u64),
            ..Limits::default()
        });
        let mut request = Request::builder()
            .method(target.method())
            .body(
                Full::new(body)
                    .map_err(|never| match never {})
                    .boxed_unsync(),
            )
            .map_err(|_| EgressError::Protocol)?;
        *request.headers_mut() = headers;
        let sent = self.send(target, request, rules, &meter, Times::default());
        let (answer, mut driver) = timeout_at(until, sent)
            .await
            .unwrap_or(Err(EgressError::FirstByteTimeout))?;
        let (head, body) = answer.into_parts();
        let body = read(body, &mut driver, bounds.kept, until).await;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }
}

/// The beginning of a body, as far as it comes in time.
async fn read(mut body: ResponseBody, driver: &mut Driver, kept: usize, until: Instant) -> Bytes {
    let mut read = Vec::new();
    while read.len() < kept {
        let frame = timeout_at(until, with_driver(body.frame(), driver)).await;
        let Ok(Some(Ok(frame))) = frame else {
            break;
        };
        if let Some(data) = frame.data_ref() {
            read.extend_from_slice(&data[..data.len().min(kept - read.len())]);
        }
    }
    read.into()
}
