//! Sending.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use uuid::Uuid;

use super::judge::KEPT_BYTES;
use super::{Delivery, HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, Secret, sign};
use crate::egress::{Bounds, Egress, NameServers, Roots, Rules};
use crate::execution::HostError;
use crate::grant::{AddressGrant, Denial, Grants, HostName, HttpGrant, HttpTarget, TargetError};

/// One callback, to be delivered.
#[derive(Debug, Clone, Copy)]
pub struct Callback<'a> {
    /// Its id, the same for every attempt.
    pub id: Uuid,
    /// Where it goes.
    pub url: &'a str,
    /// What is sent, JSON.
    pub body: &'a [u8],
    /// What it is signed with: with each, so that a secret can be changed.
    pub secrets: &'a [Secret],
    /// The trace that it belongs to: the header `traceparent`, as W3C Trace Context has it.
    pub trace: Option<&'a str>,
    /// What goes with it: the header `tracestate`.
    pub trace_state: Option<&'a str>,
}

/// Where callbacks may go, and how long they may take.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CallbackSettings {
    /// The requests that are allowed. By default all, to all hosts; where an address that is not
    /// public is named in one, it is allowed by that.
    pub http: Vec<HttpGrant>,
    /// Addresses that are not public and that a name may still lead to. Default none.
    pub addresses: Vec<AddressGrant>,
    /// How long one attempt may take. Default 20 s.
    pub timeout: Duration,
    /// Who is asked for the addresses of names. Default whom the system asks.
    pub name_servers: NameServers,
    /// Whose certificates are trusted. Default Mozilla's list.
    pub roots: Roots,
    /// Certificates that are trusted besides, as PEM.
    pub certificates: Vec<Vec<u8>>,
}

impl Default for CallbackSettings {
    fn default() -> Self {
        CallbackSettings {
            http: "POST *://*".parse().into_iter().collect(),
            addresses: Vec::new(),
            timeout: Duration::from_secs(20),
            name_servers: NameServers::default(),
            roots: Roots::default(),
            certificates: Vec::new(),
        }
    }
}

/// A URL to which no callback can go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It is none.
    #[error("the callback's URL cannot be used: {0}")]
    Url(#[from] TargetError),
    /// It is not allowed.
    #[error("the callback's URL is not allowed: {}", .0.reason)]
    Denied(Box<Denial>),
}

/// Delivers callbacks.
pub struct Callbacks {
    egress: Arc<Egress>,
    rules: Rules,
    timeout: Duration,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Callbacks {
    /// # Errors
    /// Where a certificate that was to be added is none.
    pub fn new(settings: CallbackSettings) -> Result<Self, HostError> {
        let egress = Egress::new(
            settings.name_servers,
            settings.roots,
            &settings.certificates,
            None,
        )?;
        let grants = Grants {
            http: settings.http,
            addresses: settings.addresses,
            ..Grants::default()
        };
        Ok(Callbacks {
            egress,
            rules: Rules::new(Arc::default(), &grants),
            timeout: settings.timeout,
        })
    }

    /// Checks a URL before a job is taken that has it, as far as its text tells: what its name leads
    /// to is looked up, and checked, when the callback is delivered.
    ///
    /// # Errors
    /// Where it is none, or it is not allowed, or names an address that is not.
    pub fn check(&self, url: &str) -> Result<(), UrlError> {
        let target = HttpTarget::new("POST", url)?;
        self.rules.admit(&target).map_err(UrlError::Denied)?;
        if let HostName::Address(address) = target.host() {
            let reachable = self.rules.reachable(&target, [*address]);
            reachable.map_err(UrlError::Denied)?;
        }
        Ok(())
    }

    /// Makes one attempt, and says what became of it. `now` is the time that is signed.
    ///
    /// A URL that was never one stops at once, as one that is not allowed does.
    pub async fn deliver(&self, callback: Callback<'_>, now: DateTime<Utc>) -> Delivery {
        let started = Instant::now();
        let Ok(target) = HttpTarget::new("POST", callback.url) else {
            return self.unsent(callback.url, now);
        };
        let bounds = Bounds {
            patience: self.timeout,
            kept: KEPT_BYTES,
        };
        let body = Bytes::copy_from_slice(callback.body);
        let headers = headers(&callback, now);
        let exchange = self
            .egress
            .exchange(&target, headers, body, &self.rules, bounds);
        let ended = exchange.await;
        Delivery::of(ended, target.host(), now, started.elapsed())
    }

    /// An attempt that could not be made.
    fn unsent(&self, url: &str, now: DateTime<Utc>) -> Delivery {
        Delivery {
            at: now,
            duration_ms: 0,
            status: None,
            verdict: super::Verdict::Stop,
            error: self.check(url).err().map(|error| error.to_string()),
            answer: String::new(),
            retry_after_ms: None,
        }
    }
}

fn headers(callback: &Callback<'_>, now: DateTime<Utc>) -> HeaderMap {
    let id = callback.id.to_string();
    let timestamp = now.timestamp();
    let signatures: Vec<String> = callback
        .secrets
        .iter()
        .map(|secret| sign(secret, &id, timestamp, callback.body))
        .collect();
    let agent = concat!("skillhost/", env!("CARGO_PKG_VERSION"));
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (CONTENT_TYPE, "application/json"),
        (USER_AGENT, agent),
        (HeaderName::from_static(HEADER_ID), &id),
        (
            HeaderName::from_static(HEADER_TIMESTAMP),
            &timestamp.to_string(),
        ),
        (
            HeaderName::from_static(HEADER_SIGNATURE),
            &signatures.join(" "),
        ),
    ] {
        // Each of them is ASCII.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    let state = callback.trace.and(callback.trace_state);
    for (name, value) in [("traceparent", callback.trace), ("tracestate", state)] {
        if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

#[cfg(test)]
mod tests;
