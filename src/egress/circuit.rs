//! Whether a host that failed is left alone, and what speaks for and against it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::{BoxError, Egress, EgressError, RequestBody};
use crate::breaker::{Asked, Breaker, Pass};
use crate::grant::HttpTarget;

/// How long a host has kept somebody waiting who then gives up, whatever made them: from there on that
/// speaks against the host. Less than the usual time of an execution, so that a host which never answers is
/// noticed by skills that set no time of their own.
const PATIENCE: Duration = Duration::from_secs(5);

/// The right to send one request to a host, from asking for it to the end of the answer.
///
/// Where it is dropped, nothing is known of the host, unless it has kept somebody waiting for long.
pub(super) struct Held {
    breaker: Option<(Arc<dyn Breaker<Asked>>, Pass)>,
    /// The host, and who asks.
    asked: Asked,
    waiting: Waiting,
}

/// Since when the host is waited for, where it is.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<Option<Instant>>>);

impl Waiting {
    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Egress {
    /// Asks for the right, in the name of this one.
    ///
    /// # Errors
    /// Where the host is to be left alone.
    pub(super) fn ask(&self, target: &HttpTarget, by: &str) -> Result<Held, EgressError> {
        let Some(breaker) = &self.breaker else {
            return Ok(Held {
                breaker: None,
                asked: Asked::default(),
                waiting: Waiting::default(),
            });
        };
        let asked = Asked {
            key: format!("{}:{}", target.host(), target.port()),
            by: by.to_owned(),
        };
        let pass = breaker.allow(&asked).map_err(EgressError::CircuitOpen)?;
        Ok(Held {
            breaker: Some((Arc::clone(breaker), pass)),
            asked,
            waiting: Waiting::default(),
        })
    }
}

impl Held {
    /// From now on, unless it is so already, it is the host that is waited for.
    pub fn wait(&mut self) {
        if self.breaker.is_some() {
            self.waiting.since().get_or_insert_with(Instant::now);
        }
    }

    /// The host has said something.
    pub fn heard(&mut self) {
        if self.breaker.is_some() {
            *self.waiting.since() = None;
        }
    }

    /// Whether the host is waited for, and something depends on that.
    pub fn is_waiting(&self) -> bool {
        self.breaker.is_some() && self.waiting.since().is_some()
    }

    /// A request's body as it is sent: while more of it is to come, nobody waits for the host.
    pub fn sending(&self, body: RequestBody) -> RequestBody {
        if self.breaker.is_none() || body.is_end_stream() {
            return body;
        }
        let waiting = self.waiting.clone();
        Sending { body, waiting }.boxed_unsync()
    }

    /// It answered, to the end or as far as anybody wanted to hear.
    pub fn succeeded(&mut self) {
        if let Some((breaker, pass)) = self.breaker.take() {
            breaker.record_success(&self.asked, pass);
        }
    }

    /// It did not answer, or says itself that it is not well.
    pub fn failed(&mut self) {
        if let Some((breaker, pass)) = self.breaker.take() {
            breaker.record_failure(&self.asked, pass);
        }
    }

    /// The request, or its answer, ended with this. Where it is a matter of time, it is decided where this
    /// is dropped.
    pub fn ended(&mut self, error: &EgressError) {
        match error {
            EgressError::Refused
            | EgressError::Connect(_)
            | EgressError::Certificate
            | EgressError::Tls
            | EgressError::Incomplete
            | EgressError::Protocol
            | EgressError::HeadTooLarge => self.failed(),
            EgressError::ConnectTimeout
            | EgressError::FirstByteTimeout
            | EgressError::BetweenBytesTimeout => {}
            // That of the grants, of the request, of a limit, of all executions together, or of a name that leads nowhere.
            EgressError::Denied(_)
            | EgressError::AddressDenied(_)
            | EgressError::CircuitOpen(_)
            | EgressError::NoSuchHost
            | EgressError::Names
            | EgressError::NamesTimeout
            | EgressError::Limit
            | EgressError::Busy
            | EgressError::RequestBody => self.heard(),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some((breaker, pass)) = self.breaker.take() else {
            return;
        };
        let waiting = *self.waiting.since();
        match waiting {
            Some(since) if since.elapsed() >= PATIENCE => {
                breaker.record_failure(&self.asked, pass);
            }
            _ => breaker.withdraw(&self.asked, pass),
        }
    }
}

/// The body of a request, on its way to a host.
struct Sending {
    body: RequestBody,
    waiting: Waiting,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        *self.waiting.since() = polled.is_ready().then(Instant::now);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::{BreakerSettings, CircuitState, Circuits};

    fn host() -> Asked {
        Asked {
            key: "api.example.com:443".to_owned(),
            by: "skill".to_owned(),
        }
    }

    /// Circuits that one failure opens.
    struct Hosts {
        circuits: Circuits<String>,
        settings: BreakerSettings,
    }

    impl Breaker<Asked> for Hosts {
        fn allow(&self, host: &Asked) -> Result<Pass, Duration> {
            self.circuits
                .allow(host.key.as_str(), &self.settings, &mut None)
        }

        fn record_success(&self, host: &Asked, pass: Pass) {
            self.circuits
                .record_success(host.key.as_str(), Some(&host.by), pass, &self.settings);
        }

        fn record_failure(&self, host: &Asked, pass: Pass) {
            self.circuits
                .record_failure(host.key.as_str(), Some(&host.by), pass, &self.settings);
        }

        fn withdraw(&self, host: &Asked, pass: Pass) {
            self.circuits.withdraw(host.key.as_str(), pass);
        }

        fn state(&self, host: &Asked) -> CircuitState {
            self.circuits.state(host.key.as_str())
        }
    }

    fn breaker() -> Arc<dyn Breaker<Asked>> {
        let settings = BreakerSettings {
            minimum: 1,
            ..BreakerSettings::default()
        };
        Arc::new(Hosts {
            circuits: Circuits::default(),
            settings,
        })
    }

    /// A body that is never written.
    struct Never;

    impl Body for Never {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Pending
        }
    }

    fn held(breaker: &Arc<dyn Breaker<Asked>>) -> Held {
        Held {
            breaker: Some((Arc::clone(breaker), breaker.allow(&host()).unwrap())),
            asked: host(),
            waiting: Waiting::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_after_a_while_speaks_against_the_host() {
        for error in [
            None,
            Some(EgressError::ConnectTimeout),
            Some(EgressError::FirstByteTimeout),
            Some(EgressError::BetweenBytesTimeout),
        ] {
            for (waited, state) in [
                (PATIENCE - Duration::from_millis(1), CircuitState::Closed),
                (PATIENCE, CircuitState::Open),
            ] {
                let breaker = breaker();
                let mut held = held(&breaker);
                // Before the host is asked at all.
                tokio::time::advance(PATIENCE * 2).await;
                held.wait();
                tokio::time::advance(waited / 2).await;
                held.wait();
                tokio::time::advance(waited - waited / 2).await;
                if let Some(error) = &error {
                    held.ended(error);
                }
                drop(held);
                assert_eq!(breaker.state(&host()), state, "{error:?}, {waited:?}");
            }
        }
        // Not where the host has answered meanwhile, nor where a limit ended it.
        for ended in [None, Some(EgressError::Limit)] {
            let breaker = breaker();
            let mut held = held(&breaker);
            held.wait();
            tokio::time::advance(PATIENCE).await;
            match &ended {
                Some(error) => held.ended(error),
                None => held.heard(),
            }
            drop(held);
            assert_eq!(breaker.state(&host()), CircuitState::Closed);
        }
    }

    /// Who is slow to say what it wants has no host to blame.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_not_sent_yet_says_nothing_of_the_host() {
        for (is_slow, state) in [(true, CircuitState::Closed), (false, CircuitState::Open)] {
            let breaker = breaker();
            let mut held = held(&breaker);
            held.wait();
            let body: RequestBody = match is_slow {
                true => Never.boxed_unsync(),
                false => http_body_util::Full::new(Bytes::from_static(b"all"))
                    .map_err(|never| match never {})
                    .boxed_unsync(),
            };
            let mut body = held.sending(body);
            let frame = std::future::poll_fn(|context| {
                Poll::Ready(Pin::new(&mut body).poll_frame(context).is_ready())
            });
            assert_eq!(frame.await, !is_slow);
            tokio::time::advance(PATIENCE).await;
            drop(held);
            assert_eq!(breaker.state(&host()), state);
        }
    }
}
