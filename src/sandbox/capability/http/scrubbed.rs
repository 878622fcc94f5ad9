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

/// A body without values. The last bytes of what has come wait for more, or for the end, always the same number of
/// them: how it comes in pieces tells nobody whether something is the beginning of a value. What waits when a
/// body breaks off does not come.
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

    /// Frames that are there already; in the place of one, that there is none for now.
    struct Frames(VecDeque<Option<Frame<Bytes>>>);

    impl Frames {
        fn new(frames: impl IntoIterator<Item = Frame<Bytes>>) -> Self {
            Frames(frames.into_iter().map(Some).collect())
        }
    }

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.get_mut().0.pop_front() {
                Some(None) => Poll::Pending,
                Some(Some(frame)) => Poll::Ready(Some(Ok(frame))),
                None => Poll::Ready(None),
            }
        }
    }

    fn held() -> Arc<Held> {
        held_of("hunter2hunter2")
    }

    fn held_of(value: &str) -> Arc<Held> {
        let grants = ["a=x@https://a.example".parse().unwrap()];
        let value = SecretValue::new(value.to_owned()).unwrap();
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
            let frames = Frames::new([
                Frame::data(Bytes::copy_from_slice(&text[..cut])),
                Frame::data(Bytes::new()),
                Frame::data(Bytes::copy_from_slice(&text[cut..])),
                Frame::trailers(trailers),
            ]);
            let body = Scrubbed::new(frames, held(), Goes).collect().await.unwrap();
            let trailers = body.trailers().unwrap().clone();
            assert_eq!(trailers.len(), 1);
            assert_eq!(trailers["x"], "is [secret]");
            assert_eq!(body.to_bytes(), "1 [secret] 2", "cut at {cut}");
        }
    }

    /// What comes each time that somebody asks, and that nothing comes for now, up to the end.
    fn answers(held: &Arc<Held>, frames: Frames) -> Vec<Option<Bytes>> {
        let mut body = Scrubbed::new(frames, Arc::clone(held), Goes);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut answers = Vec::new();
        loop {
            match Pin::new(&mut body).poll_frame(&mut context) {
                Poll::Pending => answers.push(None),
                Poll::Ready(Some(Ok(frame))) => answers.push(Some(frame.into_data().unwrap())),
                Poll::Ready(None) => {
                    assert!(body.is_end_stream());
                    return answers;
                }
            }
        }
    }

    /// A server that guesses the next character of a value, each guess in a piece of its own.
    #[test]
    fn how_a_body_comes_in_pieces_does_not_tell_what_a_value_begins_with() {
        let guesses = |known: &str| {
            let guess = |c: char| Frame::data(Bytes::from(format!("#{known}{c}")));
            let all = ('a'..='z').chain('0'..='9');
            Frames::new(all.cycle().take(8 * 36).map(guess))
        };
        let value = "hunter2hunter2";
        for length in 0..value.len() - 2 {
            let known = &value[..length];
            let (held, other) = (held(), held_of("correct-horse!"));
            let answers = [held, other].map(|held| answers(&held, guesses(known)));
            assert_eq!(answers[0], answers[1], "{known}");
            let lengths: Vec<_> = answers[0].iter().flatten().map(Bytes::len).collect();
            let (late, in_time) = lengths.split_last().unwrap();
            assert_eq!(*late, 256);
            // After the first one, each is as long as the piece that it comes with.
            assert!(in_time[1..].iter().all(|bytes| *bytes == length + 2));
        }
    }

    /// It waits for long, and more than once.
    #[test]
    fn a_body_with_pauses_is_whole_at_its_end() {
        let piece = |text: &str| Some(Frame::data(Bytes::copy_from_slice(text.as_bytes())));
        let long = "x".repeat(100);
        let frames = Frames(VecDeque::from([
            None,
            piece("1 hunter2"),
            None,
            None,
            piece("hunter2 2"),
            None,
            piece(&long),
            None,
            piece("3 hunter2hun"),
            None,
        ]));
        let answers = answers(&held(), frames);
        assert_eq!(answers.iter().filter(|one| one.is_none()).count(), 6);
        let whole: Vec<u8> = answers.into_iter().flatten().flatten().collect();
        let whole = String::from_utf8(whole).unwrap();
        assert_eq!(whole, format!("1 [secret] 2{long}3 hunter2hun"));
    }
}
