//! Bodies that are searched for the values of secrets: of an answer before the guest reads it, and of
//! a request before it is sent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};

use crate::secret::{Held, MARKER, Passage};

/// What becomes of a body in which a value was found.
pub(super) trait Found: Unpin {
    /// The error of the body.
    type Error;

    /// `None` where the body goes on without it.
    fn found(&mut self, name: &str) -> Option<Self::Error>;
}

/// A body without values. Pieces are held back only as far as they may be the beginning of one.
pub(super) struct Scrubbed<B, F> {
    inner: B,
    secrets: Arc<Held>,
    passage: Passage,
    found: F,
    /// What comes after the data, once there is no more of it.
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl<B, F> Scrubbed<B, F> {
    pub fn new(inner: B, secrets: Arc<Held>, found: F) -> Self {
        Scrubbed {
            inner,
            secrets,
            passage: Passage::default(),
            found,
            trailers: None,
            ended: false,
        }
    }
}

impl<B, F> Body for Scrubbed<B, F>
where
    B: Body<Data = Bytes> + Unpin,
    F: Found<Error = B::Error>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        loop {
            if this.ended {
                let trailers = this.trailers.take();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let scrubber = &this.secrets.scrubber;
            let clean = match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                Some(Err(error)) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.passage.push(scrubber, &data),
                    Err(frame) => {
                        this.ended = true;
                        if let Ok(mut trailers) = frame.into_trailers() {
                            headers(&mut trailers, &this.secrets);
                            this.trailers = Some(trailers);
                        }
                        this.passage.finish(scrubber)
                    }
                },
                None => {
                    this.ended = true;
                    this.passage.finish(scrubber)
                }
            };
            if let Some(name) = this.passage.found(scrubber)
                && let Some(error) = this.found.found(name)
            {
                this.ended = true;
                this.trailers = None;
                return Poll::Ready(Some(Err(error)));
            }
            if !clean.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(clean.into()))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let nothing_waits = self.passage.is_empty() && self.trailers.is_none();
        nothing_waits && (self.ended || self.inner.is_end_stream())
    }
}

/// Takes values out of header fields. A field whose name would have one is left out.
pub(super) fn headers(fields: &mut HeaderMap, secrets: &Held) {
    let scrubber = &secrets.scrubber;
    let bad: Vec<_> = fields
        .keys()
        .filter(|name| scrubber.find(name.as_str().as_bytes()).is_some())
        .cloned()
        .collect();
    for name in bad {
        fields.remove(name);
    }
    for value in fields.values_mut() {
        if let Some(clean) = scrubber.bytes(value.as_bytes()) {
            let marker = HeaderValue::from_static(MARKER);
            *value = HeaderValue::from_bytes(&clean).unwrap_or(marker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use http_body_util::BodyExt;

    use super::*;
    use crate::secret::{SecretValue, Secrets, read};

    struct Goes;

    impl Found for Goes {
        type Error = Infallible;

        fn found(&mut self, _: &str) -> Option<Infallible> {
            None
        }
    }

    /// Frames that are there already.
    struct Frames(VecDeque<Frame<Bytes>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.get_mut().0.pop_front().map(Ok))
        }
    }

    fn held() -> Arc<Held> {
        let grants = ["a=x@https://a.example".parse().unwrap()];
        let value = SecretValue::new("hunter2hunter2".to_owned()).unwrap();
        Arc::new(
            read(
                &Secrets::default().value("a", value).wanted(&grants, None),
                true,
            )
            .unwrap(),
        )
    }

    /// Frames of any sizes, one of them empty, and a trailer that has it, too.
    #[tokio::test]
    async fn a_body_and_its_trailers_are_clean() {
        let text = b"1 hunter2hunter2 2";
        for cut in 0..=text.len() {
            let mut trailers = HeaderMap::new();
            trailers.insert("x", HeaderValue::from_static("is hunter2hunter2"));
            trailers.insert("hunter2hunter2", HeaderValue::from_static("y"));
            let frames = Frames(VecDeque::from([
                Frame::data(Bytes::copy_from_slice(&text[..cut])),
                Frame::data(Bytes::new()),
                Frame::data(Bytes::copy_from_slice(&text[cut..])),
                Frame::trailers(trailers),
            ]));
            let body = Scrubbed::new(frames, held(), Goes).collect().await.unwrap();
            let trailers = body.trailers().unwrap().clone();
            assert_eq!(trailers.len(), 1);
            assert_eq!(trailers["x"], "is [secret]");
            assert_eq!(body.to_bytes(), "1 [secret] 2", "cut at {cut}");
        }
    }
}
