//! W3C Trace Context: who asked, and which span it is here.

use std::fmt;
use std::str::FromStr;

/// The header, as the recommendation names it.
pub const TRACEPARENT: &str = "traceparent";

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
