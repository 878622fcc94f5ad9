//! W3C Trace Context: who asked, and which span it is here.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::http::{Extensions, HeaderMap};

use super::extract::Asks;

/// The header, as the recommendation names it.
pub const TRACEPARENT: &str = "traceparent";
/// The header that goes with it.
const TRACESTATE: &str = "tracestate";
/// The longest `tracestate` that is carried on: as long as the recommendation wants it to be at least.
const MAX_STATE: usize = 512;

/// A place in a trace, and what those before said of it.
#[derive(Debug, Clone)]
pub(in crate::serve) struct Trace {
    pub parent: TraceParent,
    pub state: Option<Arc<str>>,
}

impl Trace {
    /// A place in the trace that a message names, where it names one.
    pub fn said(parent: Option<&str>, state: Option<&str>) -> Option<Self> {
        let parent: TraceParent = parent?.parse().ok()?;
        Some(Trace {
            parent: parent.child(),
            state: state.and_then(bounded),
        })
    }

    /// That of a request that came through the door.
    pub fn of_request(extensions: &Extensions) -> Option<Self> {
        extensions.get::<Asks>().map(|asks| asks.trace.clone())
    }

    /// This request's place in the trace that it names, or in one that begins here.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut named = headers.get_all(TRACEPARENT).iter();
        let parent: Option<TraceParent> = match (named.next(), named.next()) {
            (Some(value), None) => value.to_str().ok().and_then(|text| text.parse().ok()),
            _ => None,
        };
        match parent {
            Some(parent) => Trace {
                parent: parent.child(),
                state: state(headers),
            },
            // Without a trace, nothing was said of it.
            None => Trace {
                parent: TraceParent::begin(),
                state: None,
            },
        }
    }
}

/// What several headers say is one list.
fn state(headers: &HeaderMap) -> Option<Arc<str>> {
    let parts = headers.get_all(TRACESTATE).iter();
    let parts: Option<Vec<&str>> = parts.map(|part| part.to_str().ok()).collect();
    bounded(&parts?.join(","))
}

fn bounded(state: &str) -> Option<Arc<str>> {
    (1..=MAX_STATE).contains(&state.len()).then(|| state.into())
}

/// A place in a trace: the header `traceparent` of version 00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no `traceparent` of W3C Trace Context")]
pub struct NoTraceParent;

impl TraceParent {
    /// A trace that begins here. Not sampled, as nobody asked for it.
    pub fn begin() -> Self {
        TraceParent {
            trace: uuid(),
            span: random_span(),
            flags: 0,
        }
    }

    /// A span of the same trace below this one.
    #[must_use]
    pub fn child(self) -> Self {
        TraceParent {
            span: random_span(),
            ..self
        }
    }

    /// The trace's id in hexadecimal.
    pub fn trace_id(&self) -> String {
        hex::encode(self.trace)
    }
}

/// Random bytes, the first of them being the time.
fn uuid() -> [u8; 16] {
    // Unlike `now_v7`, without a lock that all threads take turns at.
    uuid::Uuid::new_v7(uuid::Timestamp::now(uuid::NoContext)).into_bytes()
}

/// The second half of such a UUID: random, and never 0.
fn random_span() -> [u8; 8] {
    let mut span = [0; 8];
    span.copy_from_slice(&uuid()[8..]);
    span
}

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        let mut parts = text.split('-');
        let version = lower_hex::<1>(parts.next())?[0];
        let trace = lower_hex::<16>(parts.next())?;
        let span = lower_hex::<8>(parts.next())?;
        let flags = lower_hex::<1>(parts.next())?[0];
        // A later version may have more after that; version 00 has not, and there is no version ff.
        let known = match version {
            0 => parts.next().is_none(),
            0xff => false,
            _ => true,
        };
        if !known || trace == [0; 16] || span == [0; 8] {
            return Err(NoTraceParent);
        }
        // Of the flags, `sampled` is the one that version 00 knows.
        Ok(TraceParent {
            trace,
            span,
            flags: flags & 1,
        })
    }
}

fn lower_hex<const N: usize>(text: Option<&str>) -> Result<[u8; N], NoTraceParent> {
    let text = text.filter(|text| !text.bytes().any(|byte| byte.is_ascii_uppercase()));
    let mut bytes = [0; N];
    hex::decode_to_slice(text.ok_or(NoTraceParent)?, &mut bytes).map_err(|_| NoTraceParent)?;
    Ok(bytes)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut trace, mut span) = ([0; 32], [0; 16]);
        let written = hex::encode_to_slice(self.trace, &mut trace).is_ok()
            && hex::encode_to_slice(self.span, &mut span).is_ok();
        match (std::str::from_utf8(&trace), std::str::from_utf8(&span)) {
            (Ok(trace), Ok(span)) if written => {
                write!(f, "00-{trace}-{span}-{:02x}", self.flags)
            }
            _ => Err(fmt::Error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_recommendation_allows_is_taken_and_continued() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent: TraceParent = text.parse().unwrap();
        assert_eq!(parent.to_string(), text);
        let child = parent.child();
        assert_eq!(child.trace_id(), parent.trace_id());
        assert_ne!(child, parent);
        assert_eq!(child.to_string().parse::<TraceParent>().unwrap(), child);
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-else";
        assert!(later.parse::<TraceParent>().is_ok());
        let begun = TraceParent::begin();
        assert_eq!(begun.to_string().parse::<TraceParent>().unwrap(), begun);
    }

    #[test]
    fn what_others_said_goes_with_the_trace_that_it_is_of() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let of = |parent: &str, states: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, parent.parse().unwrap());
            for state in states {
                headers.append(TRACESTATE, state.parse().unwrap());
            }
            Trace::of(&headers).state
        };
        assert_eq!(of(parent, &["a=1", "b=2"]).as_deref(), Some("a=1,b=2"));
        assert_eq!(of(parent, &[]), None);
        assert_eq!(of("00-x", &["a=1"]), None);
        assert_eq!(of(parent, &[&"a".repeat(513)]), None);
    }

    #[test]
    fn what_it_does_not_allow_is_not() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(NoTraceParent), "{text}");
        }
    }
}
