//! What an answer means.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::egress::{Answer, EgressError};
use crate::grant::HostName;
use crate::text::{printable, shortened};

/// How much of an answer's body is kept in the log, in bytes.
pub(super) const KEPT_BYTES: usize = 1024;

/// What an attempt to deliver a callback means for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was taken.
    Delivered,
    /// Another attempt may help.
    Retry,
    /// No other attempt is to be made.
    Stop,
}

/// One attempt to deliver a callback, as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// When it was made.
    pub at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
    /// What it means.
    pub verdict: Verdict,
    /// What went wrong, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The beginning of the answer's body, at most 1 KiB of it, with control characters escaped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
    /// How long the receiver asked to wait before the next attempt, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Delivery {
    /// How long to wait before the next attempt, after so many at the callback of this id; `None`
    /// where there is none to make.
    pub fn delay_before_next(&self, attempts: u32, id: &str) -> Option<Duration> {
        let asked = self.retry_after_ms.map(Duration::from_millis);
        match self.verdict {
            Verdict::Retry => super::delay_before(attempts, id, asked),
            Verdict::Delivered | Verdict::Stop => None,
        }
    }

    /// What an answer of this host, or none, means.
    pub(super) fn of(
        ended: Result<Answer, EgressError>,
        host: &HostName,
        at: DateTime<Utc>,
        duration: Duration,
    ) -> Self {
        let mut delivery = Delivery {
            at,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            status: None,
            verdict: Verdict::Retry,
            error: None,
            answer: String::new(),
            retry_after_ms: None,
        };
        match ended {
            Ok(answer) => {
                delivery.verdict = of_status(answer.status);
                delivery.status = Some(answer.status.as_u16());
                delivery.answer = shown(&answer.body);
                if delivery.verdict != Verdict::Delivered {
                    delivery.error = Some(said(answer.status));
                }
                if delivery.verdict == Verdict::Retry {
                    delivery.retry_after_ms = retry_after(&answer.headers, at);
                }
            }
            Err(error) => {
                delivery.verdict = of_error(&error);
                delivery.error = Some(match (error, host) {
                    // To which address a name leads within the operator's network is not for whoever submitted the job.
                    (EgressError::AddressDenied(denial), HostName::Name(_)) => {
                        let denied = denial.to_string();
                        tracing::info!("a callback is not sent: {}", printable(&denied, false));
                        "its host leads to no address that a callback may be sent to".to_owned()
                    }
                    (EgressError::Denied(denial) | EgressError::AddressDenied(denial), _) => {
                        printable(&denial.to_string(), false).into_owned()
                    }
                    (error, _) => printable(&error.to_string(), false).into_owned(),
                });
            }
        }
        delivery
    }
}

/// The statuses after which another attempt may help: too many requests and the like, whatever is
/// the server's fault, and redirects, which are not followed and may be mended on the other side.
fn of_status(status: StatusCode) -> Verdict {
    match status {
        status if status.is_success() => Verdict::Delivered,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Verdict::Retry
        }
        status if status.is_client_error() => Verdict::Stop,
        _ => Verdict::Retry,
    }
}

/// An address that is not allowed will not be allowed the next time. Everything else may pass.
fn of_error(error: &EgressError) -> Verdict {
    match error {
        EgressError::Denied(_) | EgressError::AddressDenied(_) => Verdict::Stop,
        EgressError::CircuitOpen(_)
        | EgressError::NoSuchHost
        | EgressError::Names
        | EgressError::NamesTimeout
        | EgressError::Refused
        | EgressError::Connect(_)
        | EgressError::ConnectTimeout
        | EgressError::Certificate
        | EgressError::Tls
        | EgressError::Limit
        | EgressError::Busy
        | EgressError::HeadTooLarge
        | EgressError::FirstByteTimeout
        | EgressError::BetweenBytesTimeout
        | EgressError::Incomplete
        | EgressError::RequestBody
        | EgressError::Protocol => Verdict::Retry,
    }
}

fn said(status: StatusCode) -> String {
    let more = match status {
        StatusCode::GONE => ": the receiver wants no more of these",
        status if status.is_redirection() => ": a redirect, which is not followed",
        _ => "",
    };
    format!("the answer was {status}{more}")
}

fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    printable(&shortened(&text, KEPT_BYTES), true).into_owned()
}

/// What `retry-after` asks for: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    let delay = date.to_utc() - now;
    Some(u64::try_from(delay.num_milliseconds()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn verdict(status: u16) -> Verdict {
        of_status(StatusCode::from_u16(status).unwrap())
    }

    #[test]
    fn statuses_are_told_apart() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(verdict(status), Verdict::Delivered, "{status}");
        }
        for status in [
            301, 302, 307, 308, 408, 425, 429, 500, 502, 503, 504, 599, 999,
        ] {
            assert_eq!(verdict(status), Verdict::Retry, "{status}");
        }
        for status in [400, 401, 403, 404, 405, 410, 413, 422] {
            assert_eq!(verdict(status), Verdict::Stop, "{status}");
        }
    }

    #[test]
    fn seconds_and_dates_are_read() {
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers, now)
        };
        assert_eq!(read("120"), Some(120_000));
        assert_eq!(read("18446744073709551615"), Some(u64::MAX));
        assert_eq!(read("Sat, 21 Nov 2026 12:01:00 GMT"), Some(60_000));
        assert_eq!(read("Sat, 21 Nov 2026 11:00:00 GMT"), Some(0));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }

    #[test]
    fn what_a_server_says_is_harmless() {
        assert_eq!(shown(b"a\x1b[2J\xff"), "a\\u{1b}[2J\u{fffd}");
        assert!(shown(&[b'x'; 5_000]).len() < KEPT_BYTES + 40);
    }
}
